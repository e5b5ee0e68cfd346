// A byte pipe over node:tls: stdin to the connection, the connection to stdout, and what it saw on stderr.
//
//     node peer.js ROLE PORT WAY IDENTITY
const fs = require("fs");
const tls = require("tls");
const [role, port, way, identity] = process.argv.slice(2);

const tell = (what, text) => fs.writeSync(2, `${what}: ${text}\n`);
const allowHalfOpen = way.includes("allowHalfOpen");
const verb = way.startsWith("destroy") ? "destroy" : "end";

function talk(socket) {
    const shown = () => new Promise(done => process.stdout.write("", done)); // all that came before it
    socket.on("data", data => {
        if (!process.stdout.write(data)) {
            socket.pause();
            process.stdout.once("drain", () => socket.resume());
        }
    });
    socket.on("end", () => {
        tell("read", "EOF");
        shown().then(() => fs.closeSync(1));
    });
    socket.on("error", error => tell("error", error.code));
    socket.on("close", () => shown().then(() => process.exit()));
    process.stdin.on("data", data => {
        if (!socket.write(data)) {
            process.stdin.pause();
            socket.once("drain", () => process.stdin.resume());
        }
    });
    process.stdin.on("end", () => socket[verb]());
}

if (role === "client") {
    const socket = tls.connect({port, host: "127.0.0.1", rejectUnauthorized: false, allowHalfOpen},
        () => talk(socket));
} else {
    const pem = fs.readFileSync(identity);
    const server = tls.createServer({key: pem, cert: pem, allowHalfOpen}, socket => {
        server.close();
        talk(socket);
    });
    server.listen(0, "127.0.0.1", () => tell("listening", server.address().port));
}
