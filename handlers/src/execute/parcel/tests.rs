use super::*;

fn here() -> Machine {
    Machine::here().expect("tests run on one of them")
}

fn other() -> Machine {
    Machine::ALL.into_iter().find(|machine| *machine != here()).unwrap()
}

fn label(machine: Machine, key: &UserKey) -> Label {
    Label::of(Digest::of(b"code"), machine, false, b"compiled", key).unwrap()
}

#[test]
fn what_a_trusted_node_made_for_this_machine_is_taken() {
    let (key, other) = (UserKey::generate().unwrap(), UserKey::generate().unwrap());
    let (code, trusted) = (Digest::of(b"code"), [other.public.clone(), key.public.clone()]);
    let label = label(here(), &key);
    assert_eq!(label.check(&code, &trusted), Ok(()));
    let travelled: Label = serde_json::from_str(&serde_json::to_string(&label).unwrap()).unwrap();
    assert_eq!(travelled.check(&code, &trusted), Ok(()));
}

type Bend = fn(&mut Label);

#[test]
fn anything_else_is_refused_with_the_mend() {
    let (key, other) = (UserKey::generate().unwrap(), UserKey::generate().unwrap());
    let code = Digest::of(b"code");
    let (trusted, strangers) = ([key.public.clone()], [other.public.clone()]);
    let refused = |label: &Label| label.check(&code, &trusted).unwrap_err();
    let why = refused(&label(self::other(), &key));
    let (made, here) = (self::other().name(), here().name());
    let expected = format!(
        "it was compiled for {made}, and this node is {here}; name \"{here}\" under \
         [code] targets of the node that compiles"
    );
    assert_eq!(why, expected);
    let whole = label(self::here(), &key);
    let why = whole.check(&code, &strangers).unwrap_err();
    assert!(why.contains(&key.public) && why.contains("[code] trust"), "{why}");

    // Every part is under the signature.
    let bent: [(&str, Bend); 5] = [
        ("is wanted", |label| label.code = Digest::of(b"other")),
        ("run one version", |label| label.version = "0.0.1".into()),
        ("signature", |label| label.concurrent = true),
        ("signature", |label| label.compiled = Digest::of(b"other")),
        ("signature", |label| label.signature.replace_range(..2, "AA")),
    ];
    for (expected, bend) in bent {
        let mut label = whole.clone();
        bend(&mut label);
        let why = refused(&label);
        assert!(why.contains(expected), "{expected}: {why}");
    }
    let mut borrowed = whole.clone();
    borrowed.signer = other.public.clone();
    let why = borrowed.check(&code, &strangers).unwrap_err();
    assert!(why.contains("signature is not"), "{why}");
}
