// Node `ws`, as in its manual: echo, and a broadcast to every open client.
import { createRequire } from 'node:module';

const { WebSocket, WebSocketServer } = createRequire(import.meta.url)('ws');

const server = new WebSocketServer({ host: '127.0.0.1', port: 0, perMessageDeflate: false });
server.on('listening', () => console.log(`ready ${server.address().port}`));
server.on('connection', (socket, request) => {
  const echo = request.url === '/echo';
  socket.on('error', () => {});
  socket.on('message', (data, binary) => {
    if (echo) return socket.send(data, { binary });
    for (const client of server.clients) {
      if (client.readyState === WebSocket.OPEN) client.send(data, { binary });
    }
  });
});
