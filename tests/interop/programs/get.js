// The body at a URL, to stdout, with Node's own client: node get.js URL CA
'use strict';
const fs = require('fs');
const https = require('https');

const [url, ca] = process.argv.slice(2);

function fail(error) {
  process.stderr.write(`${error.code || ''} ${error.message}\n`);
  process.exitCode = 1;
}

https.get(url, { ca: fs.readFileSync(ca), agent: new https.Agent({ keepAlive: false }) }, (response) => {
  response.on('error', fail);
  response.pipe(process.stdout);
}).on('error', fail);
