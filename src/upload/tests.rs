use super::*;

const MANIFEST: &str = r#"
[app]
name = "shop"
version = "1"

[[handler]]
name = "greet"
component = "app.wasm"

[[handler.trigger]]
call = "greet"
"#;

#[test]
fn code_that_was_not_built_is_refused_with_the_mend() {
    let dir = tempfile::tempdir().unwrap();
    let shop = dir.path().join("shop");
    std::fs::create_dir(&shop).unwrap();
    std::fs::write(shop.join("app.toml"), MANIFEST).unwrap();
    let refused = || format!("{:#}", package(&shop).err().unwrap());
    let text = refused();
    assert!(text.contains("line 8: the code ") && !text.contains("edgescale build"), "{text}");

    std::fs::write(shop.join("build.sh"), "#!/bin/sh\n").unwrap();
    let mend = format!("cannot be read; run edgescale build {}", shop.display());
    assert!(refused().contains(&mend), "{}", refused());
}
