// Bun's own server: echo, and its built-in publish to a topic, the sender included.
const server = Bun.serve({
  hostname: '127.0.0.1',
  port: 0,
  fetch(request, server) {
    const echo = new URL(request.url).pathname === '/echo';
    if (server.upgrade(request, { data: { echo } })) return;
    return new Response('websocket only', { status: 426 });
  },
  websocket: {
    perMessageDeflate: false,
    backpressureLimit: 64 * 1024 * 1024,
    open(socket) {
      if (!socket.data.echo) socket.subscribe('room');
    },
    message(socket, message) {
      if (socket.data.echo) socket.send(message);
      else server.publish('room', message);
    },
  },
});
console.log(`ready ${server.port}`);
