//! Asks a service of this container whether it is ready, and ends with 0 if so: the images hold no other program that could. It takes
//! the port from `LISTEN`, as the service does, and nothing else. It judges nothing: `/readyz` does.

use std::{
    env,
    error::Error,
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    process::ExitCode,
    time::Duration,
};

const PATIENCE: Duration = Duration::from_secs(3);
/// Of the answer: enough for its first line and a short list of reasons.
const MAX_BYTES: u64 = 4096;

fn main() -> ExitCode {
    match ask() {
        // Docker keeps what a health check prints: `docker inspect` shows it.
        Ok(answer) if answer.starts_with("HTTP/1.1 200 ") => ExitCode::SUCCESS,
        Ok(answer) => {
            eprintln!("{answer}");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn ask() -> Result<String, Box<dyn Error>> {
    let listen = env::var("LISTEN").map_err(|error| format!("LISTEN: {error}"))?;
    let port = listen.parse::<SocketAddr>().map_err(|error| format!("LISTEN={listen}: {error}"))?.port();
    let mut connection = TcpStream::connect_timeout(&(Ipv4Addr::LOCALHOST, port).into(), PATIENCE)?;
    connection.set_read_timeout(Some(PATIENCE))?;
    connection.set_write_timeout(Some(PATIENCE))?;
    write!(connection, "GET /readyz HTTP/1.1\r\nHost: localhost:{port}\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    connection.take(MAX_BYTES).read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
