use std::io::Cursor;

use proptest::prelude::*;

use super::*;

fn of(text: &str) -> Model {
    Model::of(Cursor::new(component(text)))
}

fn component(text: &str) -> Vec<u8> {
    wat::parse_str(format!("(component {text})")).unwrap()
}

const LATEST: &str = r#"(core module) (core module (memory 1) (data (i32.const 0) "wasi:a/b@0.3.0"))
    (type (instance)) (import "wasi:random/random@0.3.2" (instance))"#;

#[test]
fn imports_and_exports_say_it() {
    let concurrent = [
        r#"(import "wasi:random/random@0.3.0" (instance))"#,
        r#"(import "a:b/c@1.0.0" (instance)) (import "wasi:http/client@0.3.12" (instance))"#,
        r#"(instance $i) (export "wasi:http/handler@0.3.0" (instance $i))"#,
        LATEST,
    ];
    for text in concurrent {
        assert_eq!(of(text), Model::Concurrent, "{text}");
    }
    let serial = [
        "",
        r#"(import "wasi:http/types@0.2.3" (instance))"#,
        r#"(import "wasi:http/types@0.30.0" (instance))"#,
        r#"(import "other:http/types@0.3.0" (instance))"#,
        r#"(import "wasi-http-0-3-0" (instance))"#,
        r#"(instance $i) (export "wasi:http/incoming-handler@0.2.0" (instance $i))"#,
        r#"(component (import "wasi:random/random@0.3.0" (instance)))"#,
    ];
    for text in serial {
        assert_eq!(of(text), Model::Serial, "{text}");
    }
    assert_eq!(Model::of(Cursor::new(b"")), Model::Serial);
    assert_eq!(Model::of(Cursor::new(b"\0asm\x0d\0\x01\0\x0a\xff\xff\xff\xff\x7f")), Model::Serial);
}

#[test]
fn code_is_not_read() {
    // More than is looked at in one go lies before the import.
    let code = format!(r#"(core module (memory 1) (data "{}")) {LATEST}"#, "x".repeat(1 << 20));
    let mut counted = Counted { from: Cursor::new(component(&code)), read: 0 };
    assert_eq!(Model::of(&mut counted), Model::Concurrent);
    assert!(counted.read < 64 << 10, "{} bytes were read", counted.read);
}

struct Counted {
    from: Cursor<Vec<u8>>,
    read: usize,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.from.read(buffer)?;
        self.read += read;
        Ok(read)
    }
}

impl Seek for Counted {
    fn seek(&mut self, to: io::SeekFrom) -> io::Result<u64> {
        self.from.seek(to)
    }
}

proptest! {
    #[test]
    fn bent_components_break_nothing(cut in 0usize..400, at in 0usize..400, byte: u8) {
        let mut bytes = component(LATEST);
        let at = at % bytes.len();
        bytes[at] = byte;
        bytes.truncate(cut);
        let _ = Model::of(Cursor::new(bytes));
    }
}
