//! Frames that guests make of bytes, as they come with a call from another site.

use super::*;

async fn guest(bench: &Bench) -> Target {
    let code = wat::parse_str(include_str!("pictures.wat")).unwrap();
    bench.install(CodeKind::Component, &code).await
}

async fn answer(bench: &Bench, guest: &Target, name: &str, body: &str) -> Result<String, String> {
    match bench.invoke(guest, request(name, body)).await {
        Ok(reply) => Ok(String::from_utf8(reply.body.to_vec()).unwrap()),
        Err(InvokeError::GuestError(text)) => Err(text),
        Err(other) => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frame_is_made_of_bytes_and_of_a_blob() {
    let bench = Bench::new();
    let guest = guest(&bench).await;
    // The call is answered with its body, which is the key.
    let key = answer(&bench, &guest, "carry", "abcd....efgh....").await.unwrap();
    assert_eq!(bench.host.state().blobs[&key], "abcdefgh", "rows are stored without gaps");
    assert_eq!(answer(&bench, &guest, "look", &key).await.unwrap(), "dcbahgfe");
    assert_eq!(bench.host.state().histories, ["shop/probe/cam"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_are_no_such_frame_are_refused_with_the_reason() {
    let bench = Bench::new();
    let guest = guest(&bench).await;
    let why = answer(&bench, &guest, "carry", "too few").await.unwrap_err();
    assert_eq!(why, "a frame of 4 x 2 of gray8 takes 16 bytes, 7 given");
    let none = answer(&bench, &guest, "look", "sha256-none").await;
    assert_eq!(none.unwrap_err(), "blob sha256-none");
    for (bytes, expected) in [(7, "takes 8 bytes, 7 given"), (9, "more than the 8 bytes")] {
        let key = format!("sha256-of-{bytes}");
        bench.host.state().blobs.insert(key.clone(), vec![0; bytes].into());
        let why = answer(&bench, &guest, "look", &key).await.unwrap_err();
        assert!(why.contains(expected), "{why}");
    }
}
