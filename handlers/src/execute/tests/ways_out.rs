//! Processes that ask other hosts, by the libraries that their languages have: let out only where
//! the grants say, through the one port they have.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

use super::lambda::ask;
use super::outside::server;
use super::runtimes::{java_archive, js, js_with_stock_client};
use super::*;
use crate::outbound::tests::{Told, grants};

const PYTHON: &str = r#"
import os, socket, ssl, urllib.error, urllib.request

unverified = ssl._create_unverified_context()

def get(url, data=None):
    try:
        with urllib.request.urlopen(url, data=data, context=unverified, timeout=10) as answer:
            return [answer.status, answer.read().decode()]
    except urllib.error.HTTPError as error:
        return [error.code, error.read().decode().strip()]
    except OSError as error:
        return str(error)

kept = []

def handler(event, context):
    name, data = event["name"], event.get("data")
    if name == "get":
        return get(data)
    if name == "post":
        return get(data, b"body")
    if name == "direct":
        try:
            socket.create_connection(tuple(data), timeout=3).close()
            return "connected"
        except OSError as error:
            return type(error).__name__
    if name == "many":
        return [get(data)[0] for _ in range(66)]
    if name == "raw":
        host, port = os.environ["AWS_LAMBDA_RUNTIME_API"].split(":")
        kept.append(socket.create_connection((host, int(port)), timeout=10))
        kept[-1].sendall(data.encode())
        return kept[-1].recv(4096).decode()
    if name == "kept":
        kept[-1].settimeout(10)
        return kept[-1].recv(10).decode()
    if name == "proxy":
        names = ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy"]
        return [os.environ[name] for name in names]
"#;

const NODE: &[u8] = br#"
import http from "node:http";
import https from "node:https";
import net from "node:net";

function get(module, url) {
  return new Promise((resolve) => {
    module.get(url, { rejectUnauthorized: false }, (response) => {
      let text = "";
      response.on("data", (part) => { text += part; });
      response.on("end", () => resolve([response.statusCode, text]));
    }).on("error", (error) => resolve(error.message));
  });
}

export const handler = async ({ name, data }) => {
  process.env.NODE_TLS_REJECT_UNAUTHORIZED = "0";
  switch (name) {
    case "http": return get(http, data);
    case "https": return get(https, data);
    case "fetch": {
      try {
        const answer = await fetch(data);
        return [answer.status, await answer.text()];
      } catch (error) {
        return error.cause?.message ?? error.message;
      }
    }
    case "direct": return new Promise((resolve) => {
      const socket = net.connect(data[1], data[0], () => resolve("connected"));
      socket.on("error", (error) => resolve(error.code));
    });
  }
};
"#;

/// The same over TLS: says "secret" to whoever asks.
async fn secure_server() -> u16 {
    let made = rcgen::generate_simple_self_signed(["open.test".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    tokio::spawn(async move {
        loop {
            let stream = listener.accept().await.unwrap().0;
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let mut got = [0; 4096];
            let _ = stream.read(&mut got).await;
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\nconnection: close\r\n\r\nsecret";
            let _ = stream.write_all(answer).await;
            let _ = stream.shutdown().await;
        }
    });
    port
}

/// By the two clients of the class library; `direct` goes round the proxy.
const JAVA: &str = r#"
import com.amazonaws.services.lambda.runtime.Context;
import java.io.IOException;
import java.net.*;
import java.net.http.*;
import java.security.cert.X509Certificate;
import java.util.*;
import javax.net.ssl.*;

public class Out extends X509ExtendedTrustManager {
    public void checkClientTrusted(X509Certificate[] c, String s) {}
    public void checkClientTrusted(X509Certificate[] c, String s, Socket k) {}
    public void checkClientTrusted(X509Certificate[] c, String s, SSLEngine e) {}
    public void checkServerTrusted(X509Certificate[] c, String s) {}
    public void checkServerTrusted(X509Certificate[] c, String s, Socket k) {}
    public void checkServerTrusted(X509Certificate[] c, String s, SSLEngine e) {}
    public X509Certificate[] getAcceptedIssuers() { return new X509Certificate[0]; }

    public Object handle(Map<String, Object> event, Context context) throws Exception {
        var trusting = SSLContext.getInstance("TLS");
        trusting.init(null, new TrustManager[] {this}, null);
        var url = URI.create((String) event.get("data"));
        try {
            switch ((String) event.get("name")) {
            case "client":
                var client = HttpClient.newBuilder().sslContext(trusting).build();
                var ask = HttpRequest.newBuilder(url).build();
                var answer = client.send(ask, HttpResponse.BodyHandlers.ofString());
                return List.of(answer.statusCode(), answer.body().strip());
            case "direct":
                try (var socket = new Socket(Proxy.NO_PROXY)) {
                    socket.connect(new InetSocketAddress(url.getHost(), url.getPort()), 2000);
                    return "connected";
                }
            default:
                var connection = (HttpURLConnection) url.toURL().openConnection();
                if (connection instanceof HttpsURLConnection secure) {
                    secure.setSSLSocketFactory(trusting.getSocketFactory());
                    secure.setHostnameVerifier((name, session) -> true);
                }
                var status = connection.getResponseCode();
                var body = status < 400 ? connection.getInputStream() : connection.getErrorStream();
                return List.of(status, new String(body.readAllBytes()).strip());
            }
        } catch (IOException error) {
            return error.toString();
        }
    }
}
"#;

/// A server without and one with TLS, as guests know them: their URLs, and what grants them.
async fn two_servers(bench: &Bench) -> (String, String, [String; 4]) {
    let _ = bench.host.resolver.set(told());
    let plain = server(&[("/", "welcome")]).await;
    let secure = secure_server().await;
    let url = |scheme: &str, port: u16| format!("{scheme}://open.test:{port}/");
    let hosts =
        [("*.test", plain), ("*.test", secure), ("127.0.0.1", plain), ("127.0.0.1", secure)];
    let granted = hosts.map(|(host, port)| format!("{host}:{port}"));
    (url("http", plain), url("https", secure), granted)
}

fn told() -> Told {
    Told::default()
        .answers("open.test", &[&["127.0.0.1"]])
        .answers("inside.test", &[&["10.0.0.1"]])
        .answers("closed.test", &[&["127.0.0.1"]])
}

async fn python(bench: &Bench) -> Option<Target> {
    if !has_tool("py/awslambdaric") {
        return None;
    }
    let mut target = bench.install(CodeKind::Python, PYTHON.as_bytes()).await;
    target.entry = Some("main.handler".into());
    target.limits.timeout_ms = 20_000;
    Some(target)
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn urllib_gets_out_only_where_the_grants_say() {
    let bench = Bench::new();
    let Some(target) = python(&bench).await else { return };
    let _ = bench.host.resolver.set(told());
    let plain = server(&[("/", "welcome"), ("/away", "-> http://inside.test:PORT/")]).await;
    let secure = secure_server().await;
    let get = async |url: &str| ask(&bench, &target, "get", &quoted(url)).await.to_string();
    let (open, tls) =
        (format!("http://open.test:{plain}/"), format!("https://open.test:{secure}/"));

    let denied =
        format!("open.test:{plain} is not granted; write \\\"open.test\\\" under [grants] hosts");
    assert_eq!(get(&open).await, format!("[403,\"{denied}\"]"));
    let said = get(&tls).await;
    let line = format!("403 open.test:{secure} is not granted; write \\\"open.test\\\" under");
    assert!(said.contains(&line), "{said}");
    assert!(bench.host.state().refused.iter().all(|kind| *kind == "not granted"));

    let named = [format!("*.test:{plain}"), format!("*.test:{secure}")];
    bench.host.state().hosts = grants(&named.each_ref().map(String::as_str));
    let inside = get(&open).await;
    assert!(inside.starts_with("[403,\"open.test is at 127.0.0.1, which is no public"), "{inside}");

    let net = [format!("127.0.0.1:{plain}"), format!("127.0.0.1:{secure}")];
    bench.host.state().hosts = grants(&[&named[0], &named[1], &net[0], &net[1]]);
    assert_eq!(get(&open).await, "[200,\"welcome\"]");
    assert_eq!(get(&tls).await, "[200,\"secret\"]");
    let posted = ask(&bench, &target, "post", &quoted(&open)).await;
    assert_eq!(posted.to_string(), "[200,\"welcome\"]");
    // A redirect is a request like any other.
    let away = get(&format!("{open}away")).await;
    assert!(away.contains("inside.test is at 10.0.0.1, which is no public address"), "{away}");
    let nowhere = get(&format!("http://nowhere.test:{plain}/")).await;
    assert!(nowhere.starts_with("[502,\"nowhere.test: no address"), "{nowhere}");
    let metadata = get("http://169.254.169.254/latest").await;
    assert!(metadata.starts_with("[403,\"169.254.169.254:80 is not granted"), "{metadata}");

    // The proxy is the only way.
    for host in ["127.0.0.1", "open.test"] {
        let direct = serde_json::json!([host, plain]).to_string();
        let direct = ask(&bench, &target, "direct", &direct).await.to_string();
        assert!(!direct.contains("connected"), "{host}: {direct}");
    }
    let many = ask(&bench, &target, "many", &quoted(&open)).await;
    let many: Vec<u64> = serde_json::from_value(many).unwrap();
    assert_eq!(many, [[200; 64].as_slice(), &[403; 2]].concat());
    assert_eq!(get(&open).await, "[200,\"welcome\"]", "each invocation has its own count");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tunnel_ends_with_its_process() {
    let bench = Bench::new();
    let Some(target) = python(&bench).await else { return };
    let _ = bench.host.resolver.set(told());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    bench.host.state().hosts =
        grants(&[&format!("open.test:{port}"), &format!("127.0.0.1:{port}")]);
    let ask_raw = async |text: String| {
        let said = ask(&bench, &target, "raw", &quoted(&text)).await;
        said.as_str().unwrap().to_owned()
    };
    let opened = ask_raw(format!("CONNECT open.test:{port} HTTP/1.1\r\nhost: x\r\n\r\n")).await;
    assert!(opened.starts_with("HTTP/1.1 200"), "{opened}");
    let mut outside = listener.accept().await.unwrap().0;
    // Clients keep it for the next invocation.
    outside.write_all(b"hello").await.unwrap();
    assert_eq!(ask(&bench, &target, "kept", "").await, "hello");

    for (request, expected) in [
        ("GET https://open.test/ HTTP/1.1\r\nhost: x\r\n\r\n", "HTTP/1.1 400"),
        ("CONNECT 127.0.0.1:1 HTTP/1.1\r\nhost: x\r\n\r\n", "HTTP/1.1 403 127.0.0.1:1 is not"),
        ("CONNECT / HTTP/1.1\r\nhost: x\r\n\r\n", "HTTP/1.1 404"),
        // Where the Runtime API of another would be.
        ("GET http://closed.test/2018-06-01/runtime/invocation/next HTTP/1.1\r\n\r\n", "403"),
    ] {
        let said = ask_raw(request.to_owned()).await;
        assert!(said.contains(expected), "{request}: {said}");
    }
    bench.execute.uninstall(&target.digest).unwrap();
    let read = tokio::time::timeout(Duration::from_secs(10), outside.read(&mut [0; 8])).await;
    assert!(matches!(read, Ok(Ok(0) | Err(_))), "{read:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn fetch_and_https_of_node_get_out_only_where_the_grants_say() {
    let bench = Bench::new();
    let Some(target) = js(&bench, NODE, "main.handler").await else { return };
    node_gets_out_only_where_the_grants_say(&bench, target).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_with_the_stock_client_gets_out_only_where_the_grants_say() {
    let (bench, dir) = (Bench::new(), tempfile::tempdir().unwrap());
    let modules = ["http", "https", "net"];
    let required = modules.into_iter().fold(String::from_utf8_lossy(NODE), |text, name| {
        let import = format!("import {name} from \"node:{name}\";");
        text.replace(&import, &format!("const {name} = require(\"node:{name}\");")).into()
    });
    let function = required.replace("export const handler", "exports.handler");
    let Some(code) = js_with_stock_client(dir.path(), &function) else { return };
    let Some(target) = js(&bench, &code, "app.handler").await else { return };
    node_gets_out_only_where_the_grants_say(&bench, target).await;
}

async fn node_gets_out_only_where_the_grants_say(bench: &Bench, mut target: Target) {
    target.limits.timeout_ms = 20_000;
    let (open, tls, granted) = two_servers(bench).await;
    let ask = async |how: &str, url: &str| ask(bench, &target, how, url).await;
    let cases = [
        ("http", &open, "[200,\"welcome\"]"),
        ("fetch", &open, "[200,\"welcome\"]"),
        ("https", &tls, "[200,\"secret\"]"),
        ("fetch", &tls, "[200,\"secret\"]"),
    ];
    for (how, url, _) in cases {
        let said = ask(how, &quoted(url)).await.to_string();
        assert!(said.contains("is not granted; write \\\"open.test\\\" under"), "{how}: {said}");
    }
    bench.host.state().hosts = grants(&granted.each_ref().map(String::as_str));
    for (how, url, expected) in cases {
        for _ in 0..2 {
            assert_eq!(ask(how, &quoted(url)).await.to_string(), expected, "{how}");
        }
    }
    let port: u16 = open.trim_end_matches('/').rsplit(':').next().unwrap().parse().unwrap();
    let direct = serde_json::json!(["127.0.0.1", port]).to_string();
    assert_ne!(ask("direct", &direct).await, "connected");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_clients_of_java_get_out_only_where_the_grants_say() {
    let bench = Bench::new();
    let dir = tempfile::tempdir().unwrap();
    let Some(jar) = java_archive(dir.path(), "Out", JAVA) else { return };
    let mut target = bench.install(CodeKind::Java, &jar).await;
    target.entry = Some("Out::handle".into());
    target.limits.timeout_ms = 60_000;
    let (open, tls, granted) = two_servers(&bench).await;
    let cases = [
        ("client", &open, "[200,\"welcome\"]"),
        ("connection", &open, "[200,\"welcome\"]"),
        ("client", &tls, "[200,\"secret\"]"),
        ("connection", &tls, "[200,\"secret\"]"),
    ];
    let get =
        async |how: &str, url: &str| ask(&bench, &target, how, &quoted(url)).await.to_string();
    for (how, url, welcome) in cases {
        let said = get(how, url).await;
        assert!(said.contains("403") || said.contains("not granted"), "{how} {url}: {said}");
        assert_ne!(said, welcome, "{how} {url}");
    }
    let refused = bench.host.state().refused.clone();
    assert_eq!(refused, ["not granted"; 4], "each was refused by the grants");

    bench.host.state().hosts = grants(&granted.each_ref().map(String::as_str));
    for (how, url, welcome) in cases {
        assert_eq!(get(how, url).await, welcome, "{how} {url}");
    }
    let direct = get("direct", &open.replace("open.test", "127.0.0.1")).await;
    assert!(!direct.contains("connected"), "{direct}");
}
