// Files over HTTPS with Node's own server: node served.js PORT CERT KEY DIRECTORY
'use strict';
const fs = require('fs');
const https = require('https');
const path = require('path');

const [port, cert, key, directory] = process.argv.slice(2);
const files = new Map([['/', 'index.html'], ['/large.bin', 'large.bin']]);

https.createServer({ cert: fs.readFileSync(cert), key: fs.readFileSync(key) }, (request, response) => {
  const name = files.get(request.url);
  if (!name) {
    response.writeHead(404, { 'Content-Length': 0 });
    response.end();
    return;
  }
  const file = path.join(directory, name);
  response.writeHead(200, { 'Content-Length': fs.statSync(file).size });
  fs.createReadStream(file).pipe(response);
}).listen(Number(port), '127.0.0.1');
