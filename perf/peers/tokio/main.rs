// main.rs: echo and lines in Rust, on tokio's current-thread runtime, as a peer.
//
// One task for each connection. echo is tokio's own example: read into a buffer, write_all what was
// read. lines reads with BufReader::read_until and writes with BufWriter, both of tokio's default
// size, and flushes when no whole line is left in the reader: the replies to lines that came
// together leave together.
//
// Neighbours: Cargo.toml; scripts/peers.sh builds it; ../README.md compares the peers.
// Ownership: a connection and its buffers belong to its task.
use std::io::{self, Write};
use std::os::unix::fs::FileTypeExt;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::io::{BufReader, BufWriter};
use tokio::net::{TcpSocket, UnixListener};
use tokio::signal::unix::{signal, SignalKind};

const BUFFER_BYTES: usize = 4096;
const BACKLOG: u32 = 4096;
const ACCEPT_RETRY: Duration = Duration::from_millis(50);
const USAGE: &str = "usage: tokio_peer [echo|lines] --port N | --unix PATH";

#[derive(Clone, Copy)]
enum Mode {
    Echo,
    Lines,
}

enum Place {
    Port(u16),
    Path(String),
}

async fn echo<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let count = stream.read(&mut buffer).await?;
        if count == 0 {
            return Ok(());
        }
        stream.write_all(&buffer[..count]).await?;
    }
}

async fn answer_lines<S: AsyncRead + AsyncWrite + Unpin>(stream: S) -> io::Result<()> {
    // What tokio::io::BufStream is too, but that one does not show what it has buffered.
    let mut stream = BufReader::new(BufWriter::new(stream));
    let mut line = Vec::new();
    while stream.read_until(b'\n', &mut line).await? > 0 {
        stream.write_all(&line).await?;
        line.clear();
        if !stream.buffer().contains(&b'\n') {
            stream.flush().await?;
        }
    }
    Ok(())
}

// Serves a connection in a task of its own; one that is lost just ends.
fn start<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(stream: S, mode: Mode) {
    tokio::spawn(async move {
        let _ = match mode {
            Mode::Echo => echo(stream).await,
            Mode::Lines => answer_lines(stream).await,
        };
    });
}

async fn serve_tcp(port: u16, mode: Mode) -> io::Result<()> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(([127, 0, 0, 1], port).into())?;
    let listener = socket.listen(BACKLOG)?;
    announce(&format!("127.0.0.1:{}", listener.local_addr()?.port()))?;
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                if stream.set_nodelay(true).is_ok() {
                    start(stream, mode);
                }
            }
            // No descriptor left: a little later there may be.
            Err(_) => tokio::time::sleep(ACCEPT_RETRY).await,
        }
    }
}

async fn serve_unix(path: &str, mode: Mode) -> io::Result<()> {
    if let Ok(status) = std::fs::symlink_metadata(path) {
        if status.file_type().is_socket() {
            std::fs::remove_file(path)?; // left behind by an earlier process
        }
    }
    let listener = UnixListener::bind(path)?;
    announce(&format!("unix:{}", path))?;
    loop {
        match listener.accept().await {
            Ok((stream, _)) => start(stream, mode),
            Err(_) => tokio::time::sleep(ACCEPT_RETRY).await,
        }
    }
}

fn announce(address: &str) -> io::Result<()> {
    println!("tokio listening on {}", address);
    io::stdout().flush()
}

async fn serve(place: Place, mode: Mode) -> io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let serving = async {
        match &place {
            Place::Port(port) => serve_tcp(*port, mode).await,
            Place::Path(path) => serve_unix(path, mode).await,
        }
    };
    tokio::select! {
        result = serving => result,
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
    }
}

fn parse() -> Result<(Place, Mode), String> {
    let mut words: Vec<String> = std::env::args().skip(1).collect();
    if words.iter().any(|word| word == "--help") {
        println!("{}", USAGE);
        std::process::exit(0);
    }
    let mode = match words.first().map(String::as_str) {
        Some("lines") => Mode::Lines,
        _ => Mode::Echo,
    };
    if matches!(words.first().map(String::as_str), Some("echo" | "lines")) {
        words.remove(0);
    }
    match (words.first().map(String::as_str), words.get(1), words.len()) {
        (Some("--port"), Some(port), 2) => match port.parse() {
            Ok(number) => Ok((Place::Port(number), mode)),
            Err(_) => Err(format!("--port \"{}\" is not a number from 0 to 65535", port)),
        },
        (Some("--unix"), Some(path), 2) => Ok((Place::Path(path.clone()), mode)),
        _ => Err(format!("\"{}\" was not understood; {}", words.join(" "), USAGE)),
    }
}

// As many descriptors as the hard limit allows: a server of 10,000 connections needs them.
fn raise_descriptor_limit() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // Sound: both calls get a valid rlimit, and a failure leaves the limit as it was.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) == 0 {
            limit.rlim_cur = limit.rlim_max;
            libc::setrlimit(libc::RLIMIT_NOFILE, &limit);
        }
    }
}

fn main() {
    let (place, mode) = parse().unwrap_or_else(|message| {
        eprintln!("tokio: {}", message);
        std::process::exit(2);
    });
    raise_descriptor_limit();
    let result = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .and_then(|runtime| runtime.block_on(serve(place, mode)));
    if let Err(error) = result {
        eprintln!("tokio: {}", error);
        std::process::exit(1);
    }
}
