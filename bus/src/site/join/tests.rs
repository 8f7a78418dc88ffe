use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::prelude::*;

use super::*;
use crate::pki::{Authority, LinkKey};

fn token(join: String, authority: String) -> Token {
    Token {
        site: "cloud.east".parse().expect("a path"),
        class: TierClass::Region,
        join,
        authority,
        seed: UserKey::generate().expect("a key").seed,
        expires_s: 1,
    }
}

struct Parent {
    folder: tempfile::TempDir,
    authority: Authority,
}

impl Parent {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        let authority = Authority::load_or_generate(&at("authority.key"), &at("authority.pem"));
        let authority = authority.expect("an authority");
        let key = LinkKey::load_or_generate(&at("listen.key")).expect("a key");
        let cloud = "cloud".parse().expect("a path");
        let own = authority.sign(&cloud, &["127.0.0.1".into()], &key.public()).expect("signed");
        pki::write_secret(&at("listen.pem"), &(own + authority.pem())).expect("written");
        Self { folder, authority }
    }

    fn files(&self) -> TlsFiles {
        let at = |name: &str| self.folder.path().join(name);
        let (certificate, key) = (at("listen.pem"), at("listen.key"));
        TlsFiles { certificate, key, authority: at("authority.pem") }
    }
}

#[tokio::test]
async fn a_child_speaks_to_none_but_the_parent_of_its_token() {
    let (parent, stranger) = (Parent::new(), Parent::new());
    let door = Door::open("127.0.0.1", 0, &parent.files()).await.expect("a door");
    let address = format!("127.0.0.1:{}", door.port());
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let pem = parent.authority.pem().to_owned();
    let answering = tokio::spawn(door.answer(move |_, request| {
        count.fetch_add(1, Ordering::Relaxed);
        let authority = pem.clone();
        async move {
            request?.check()?;
            Ok(JoinAnswer {
                site: "cloud.east".parse()?,
                class: TierClass::Region,
                address: "127.0.0.1:1".into(),
                certificate: String::new(),
                authority,
                payload_bytes_max: MAX_PAYLOAD_BYTES,
                others: vec![],
            })
        }
    }));
    let link = UserKey::generate().expect("a key");
    let tls = LinkKey::load_or_generate(&parent.folder.path().join("child.key")).expect("a key");
    let wrong = token(address.clone(), stranger.authority.fingerprint());
    let request =
        JoinRequest::new(&wrong, &link, tls.public(), Default::default()).expect("a request");
    let error = ask(&wrong, &request).await.expect_err("a stranger").to_string();
    assert!(error.contains("not the site that the token is for"), "{error}");
    assert_eq!(asked.load(Ordering::Relaxed), 0, "the stranger got the request");

    let right = token(address.clone(), parent.authority.fingerprint());
    let request =
        JoinRequest::new(&right, &link, tls.public(), Default::default()).expect("a request");
    let answer = ask(&right, &request).await.expect("an answer");
    assert_eq!(answer.authority, parent.authority.pem());

    let mut forged = request.clone();
    forged.signature = "AAAA".into();
    let error = ask(&right, &forged).await.expect_err("forged").to_string();
    assert!(error.contains("not signed by the invited"), "{error}");

    // Whoever speaks something else harms nobody.
    for garbage in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0; 5_000], &[0x16, 3, 1, 0xff, 0xff]] {
        let mut stream = TcpStream::connect(&address).await.expect("connected");
        let _ = stream.write_all(garbage).await;
    }
    ask(&right, &request).await.expect("still answering");
    answering.abort();
}

#[test]
fn tokens_survive_being_written_down() {
    let token = token("10.0.0.1:7423".into(), "ab".repeat(32));
    let text = token.encode().expect("text");
    assert!(Token::decode(&format!("  {text}\n")).expect("read") == token);
    for bad in ["", "es-join-", &text[..text.len() / 2], "es-join-AAAA", "{}", &text[1..]] {
        let error = Token::decode(bad).err().expect("a damaged token").to_string();
        assert!(error.contains("damaged or incomplete"), "{error}");
        assert!(!error.contains(&token.seed), "{error}");
    }
}

proptest! {
    #[test]
    fn no_text_is_a_panic(text in ".{0,300}", digits in "[0-9a-f]{0,140}") {
        let _ = Token::decode(&format!("{TOKEN_PREFIX}{text}"));
        let _ = LinkPublic::try_from(text);
        let key = LinkPublic::try_from(digits.clone());
        prop_assert_eq!(key.is_ok(), digits.len() == 130 && digits.starts_with("04"));
    }
}
