//! Starts the example as a reader would and talks to it.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use tungstenite::Message;

struct Example(Child);

impl Drop for Example {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start() -> (Example, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hello"));
    let mut child = command.arg("127.0.0.1:0").stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let address = line.trim().strip_prefix("listening on ").unwrap().to_owned();
    (Example(child), address)
}

#[test]
fn it_shouts() {
    let (_example, address) = start();
    let (mut socket, _) = tungstenite::connect(format!("ws://{address}/shout")).unwrap();
    socket.send(Message::text("hello")).unwrap();
    assert_eq!(socket.read().unwrap(), Message::text("HELLO"));
    socket.send(Message::binary(vec![1, 2])).unwrap();
    assert_eq!(socket.read().unwrap(), Message::binary(vec![1, 2]));
}
