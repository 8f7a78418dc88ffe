use super::*;

#[test]
fn known_answer() {
    let empty = "sha256-e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    assert_eq!(Digest::of(b"").as_str(), empty);
    assert_eq!(empty.parse::<Digest>().unwrap(), Digest::of(b""));
}

#[test]
fn what_is_no_digest_is_refused() {
    let whole = Digest::of(b"x").to_string();
    let (upper, cut) = (whole.to_uppercase(), &whole[..70]);
    for text in ["", "sha256-", "sha256-zz", "md5-00", "sha256-../../etc/passwd", cut, &upper] {
        assert!(text.parse::<Digest>().is_err(), "{text}");
    }
}

#[test]
fn serde_checks_too() {
    let json = serde_json::to_string(&Digest::of(b"x")).unwrap();
    assert_eq!(serde_json::from_str::<Digest>(&json).unwrap(), Digest::of(b"x"));
    assert!(serde_json::from_str::<Digest>("\"sha256-12\"").is_err());
}
