//! `aws-fault-proxy`: the proxy for people, scripts and the sandbox.

use std::net::SocketAddr;
use std::process::ExitCode;

use aws_fault_proxy::seed::{Size, seed};
use aws_fault_proxy::{AwsProxy, Options, Tls};

const USAGE: &str = "usage:
  aws-fault-proxy serve DOUBLE [--service NAME=DOUBLE]... [--listen ADDRESS]
                        [--tls ADDRESS CERTIFICATE KEY] [--control ADDRESS] [--log FILE]
  aws-fault-proxy seed PROXY [USERS]
An address is IP:PORT. `serve` runs until it is told to end; orders: tests/support/aws/src/control.rs.
`seed` makes users with keys, roles and secrets as the double's root, and prints them.";

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let ended = match arguments[..] {
        ["serve", double, ref rest @ ..] => serve(double, rest).await,
        ["seed", proxy] => make(proxy, "36").await,
        ["seed", proxy, users] => make(proxy, users).await,
        _ => Err(USAGE.to_owned()),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| format!("`{text}` is not IP:PORT"))
}

async fn serve(double: &str, rest: &[&str]) -> Result<(), String> {
    let mut options = Options::before(address(double)?);
    let mut rest = rest;
    while !rest.is_empty() {
        rest = option(&mut options, rest)?;
    }
    let proxy = AwsProxy::start(options).map_err(|error| error.to_string())?;
    println!("endpoint http://{}", proxy.address());
    println!("control http://{}/_proxy/", proxy.control());
    let mut told = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())
        .map_err(|e| e.to_string())?;
    tokio::select! {
        _ = told.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
    Ok(())
}

/// Takes one option; what is left after it.
fn option<'a>(options: &mut Options, given: &'a [&'a str]) -> Result<&'a [&'a str], String> {
    match *given {
        ["--listen", at, ref rest @ ..] => {
            options.listen = address(at)?;
            Ok(rest)
        }
        ["--tls", at, certificate, key, ref rest @ ..] => {
            options.tls = Some(Tls {
                listen: address(at)?,
                certificate: certificate.into(),
                key: key.into(),
            });
            Ok(rest)
        }
        ["--control", at, ref rest @ ..] => {
            options.control = address(at)?;
            Ok(rest)
        }
        ["--log", file, ref rest @ ..] => {
            options.log = Some(file.into());
            Ok(rest)
        }
        ["--service", pair, ref rest @ ..] => {
            let (name, at) = pair.split_once('=').ok_or(USAGE)?;
            options.services.insert(name.to_owned(), address(at)?);
            Ok(rest)
        }
        _ => Err(USAGE.to_owned()),
    }
}

async fn make(proxy: &str, users: &str) -> Result<(), String> {
    let users = users
        .parse()
        .map_err(|_| format!("`{users}` is not a number of users"))?;
    let size = Size {
        users,
        two_keys_every: 4,
    };
    let seeded = seed(address(proxy)?, size).await?;
    println!(
        "{}",
        serde_json::to_string_pretty(&seeded).map_err(|e| e.to_string())?
    );
    Ok(())
}
