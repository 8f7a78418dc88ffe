use super::*;

/// The code around the bug, with other addresses than Debian's.
fn code() -> Vec<u8> {
    let place = [0x78, 0x06, 0, 0];
    let mut code = vec![0x90; 11];
    code.extend([0x48, 0x89, 0x83]);
    code.extend(place);
    code.extend([0x48, 0x89, 0xE8, 0xEB, 0xE1, 0x0F, 0x1F, 0x40, 0]);
    code.extend([0x48, 0x8B, 0xBF]);
    code.extend(place);
    code.extend([0xE8, 1, 2, 3, 4, 0x48, 0x85, 0xC0, 0x75, 0xE6, 0x48, 0x8B, 0xBB]);
    code.extend(place);
    code
}

#[test]
fn one_byte_is_mended_where_the_bug_is_found_once() {
    let mut library = code();
    assert!(mend(&mut library));
    let changed: Vec<usize> = (0..library.len()).filter(|at| library[*at] != code()[*at]).collect();
    assert_eq!(changed.len(), 1);
    assert!(!mend(&mut library), "it is mended already");
    let mut twice = [code(), code()].concat();
    assert!(!mend(&mut twice), "nobody knows which");
    assert_eq!(twice, [code(), code()].concat());
    for end in 0..code().len() - 4 {
        assert!(!mend(&mut code()[..end]));
    }
}

#[test]
fn words_reach_a_shell_as_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("a/b/script");
    let arguments = ["$HOME", "it's", "a b", "\"q\""].map(str::to_string).to_vec();
    write_program(&script, &Program { path: "/usr/bin/printf".into(), arguments }).unwrap();
    let output = std::process::Command::new(&script).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "$HOME");
    assert!(std::fs::read_to_string(&script).unwrap().contains("'it'\\''s' 'a b' '\"q\"'"));
}
