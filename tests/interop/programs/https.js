// Serves two answers over HTTPS: node https.js PORT CERT KEY
const fs = require("fs");
const https = require("https");
const [port, cert, key] = process.argv.slice(2);
const small = Buffer.from("<p>hello</p>".repeat(10));
const big = Buffer.alloc(8 << 20);
const server = https.createServer({ cert: fs.readFileSync(cert), key: fs.readFileSync(key) }, (request, response) => {
  const body = request.url === "/big" ? big : small;
  response.writeHead(200, { "Content-Length": body.length });
  response.end(body);
});
server.keepAliveTimeout = 500;
server.listen(Number(port), "127.0.0.1");
