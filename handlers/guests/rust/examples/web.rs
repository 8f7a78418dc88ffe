//! A component of `wasi:http/proxy`, as the crate `wasip2` makes one: does what the path says.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{
    Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam,
};

wasip2::http::proxy::export!(Web);

struct Web;

impl Guest for Web {
    fn handle(request: IncomingRequest, response_out: ResponseOutparam) {
        let path = request.path_with_query().unwrap_or_default();
        let (status, answer) = match path.split('?').next().unwrap_or_default() {
            "/echo" => (200, format!("{:?} {path} {}", request.method(), read(&request))),
            "/std" => (200, uses_std()),
            "/files" => (200, format!("{:?}", std::fs::read("/etc/passwd").map_err(|e| e.kind()))),
            "/grow" => (200, grow().to_string()),
            "/panic" => give_up(),
            "/exit" => std::process::exit(3),
            "/deep" => (200, deep(u64::MAX).to_string()),
            _ => (404, String::new()),
        };
        let headers = Fields::new();
        let _ = headers.append("content-type", b"text/plain");
        let response = OutgoingResponse::new(headers);
        let _ = response.set_status_code(status);
        let body = response.body().expect("it is taken once");
        ResponseOutparam::set(response_out, Ok(response));
        let mut out = body.write().expect("it is taken once");
        out.write_all(answer.as_bytes()).expect("the client is there");
        out.flush().expect("the client is there");
        drop(out);
        OutgoingBody::finish(body, None).expect("no length was said");
    }
}

fn read(request: &IncomingRequest) -> String {
    let body = request.consume().expect("it is taken once");
    let mut text = String::new();
    let stream = body.stream().expect("it is taken once");
    { stream }.read_to_string(&mut text).expect("it is text");
    text
}

/// Memory, random numbers (in the map), clocks, environment and output of the standard library.
fn uses_std() -> String {
    let words: HashMap<usize, &str> = ["a", "b", "c"].into_iter().enumerate().collect();
    let began = Instant::now();
    std::thread::sleep(std::time::Duration::from_millis(5));
    let slept = began.elapsed().as_millis() >= 5;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).is_ok_and(|time| time.as_secs() > 0);
    println!("to stdout");
    eprintln!("to stderr");
    let greeting = std::env::var("greeting").unwrap_or_default();
    format!("{} {slept} {now} {greeting}", words.len())
}

fn grow() -> usize {
    let mut kept = Vec::new();
    loop {
        kept.push(vec![1u8; 1 << 20]);
        if kept.len() > 1 << 20 {
            return kept.len();
        }
    }
}

#[inline(never)]
fn give_up() -> ! {
    panic!("gave up on purpose")
}

#[inline(never)]
fn deep(n: u64) -> u64 {
    if n == 0 { 0 } else { std::hint::black_box(deep(std::hint::black_box(n - 1))) + 1 }
}
