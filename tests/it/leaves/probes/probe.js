// probe.js PORT HOST...: a handshake for each host; trust comes from NODE_EXTRA_CA_CERTS.
const net = require("node:net");
const tls = require("node:tls");

const [port, ...hosts] = process.argv.slice(2);

function visit(host) {
  return new Promise((resolve, reject) => {
    const options = { host: "127.0.0.1", port: Number(port) };
    if (net.isIP(host)) {
      options.checkServerIdentity = (_, certificate) => tls.checkServerIdentity(host, certificate);
    } else {
      options.servername = host;
    }
    const socket = tls.connect(options, () => {
      if (!socket.authorized) return reject(new Error(socket.authorizationError));
      socket.end("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    });
    let reply = "";
    socket.on("data", (chunk) => (reply += chunk));
    socket.on("end", () => (reply.startsWith("HTTP/1.1 200") ? resolve() : reject(new Error(reply))));
    socket.on("error", reject);
  });
}

(async () => {
  for (const host of hosts) {
    await visit(host);
    console.log("accepted", host);
  }
})().catch((error) => {
  console.error(String(error));
  process.exit(1);
});
