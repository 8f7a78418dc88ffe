use super::*;
use crate::command::BufferId;
use crate::conformance::{self, SCALE_ADD};
use crate::ptx;

/// The interpreter of PTX in place of a GPU, with a folder to keep compiled texts in.
fn device(dir: &std::path::Path) -> Option<ptx::PtxDevice> {
    let found = ptx::device(&Config {
        nvrtc_dir: Some(ptx::nvrtc_for_tests(env!("CARGO_MANIFEST_DIR"))),
        group_size: Some(64),
        cache_dir: Some(dir.to_path_buf()),
        ..Config::default()
    });
    if found.is_none() {
        aloud::skipped!("no NVRTC; install it with ./tools.sh test");
    }
    found
}

/// What the kernel makes of a seven, ten times.
fn tenfold(device: &ptx::PtxDevice) -> u8 {
    let [from, to]: [BufferId; 2] = [(); 2].map(|()| device.alloc(1).unwrap());
    device.write(from, 0, &[7]).unwrap();
    device.run(&[conformance::scale_add_launch(from, to, 1, 10)]).unwrap();
    let mut got = [0];
    device.read(to, 0, &mut got).unwrap();
    [from, to].into_iter().for_each(|id| device.free(id).unwrap());
    got[0]
}

#[test]
fn compiled_texts_are_kept_on_disk_and_used_by_the_next_process() {
    let dir = tempfile::tempdir().unwrap();
    let Some(first) = device(dir.path()) else { return };
    assert_eq!(tenfold(&first), 70);
    let (source, options) = (whole(SCALE_ADD.cuda), options(64, Target::Ptx(90)));
    let code = first.cache.load(&source, &options).expect("it is kept");

    // Code of another text in its place shows where the next device has its own from.
    let other = compile(&source.replace("* factor", "+ factor"), 64, Target::Ptx(90)).unwrap();
    first.cache.store(&source, &options, &other);
    assert_eq!(tenfold(&device(dir.path()).unwrap()), 17);
    assert_eq!(tenfold(&first), 70, "what is loaded stays");

    first.cache.store(&source, &options, b"no code at all");
    assert_eq!(tenfold(&device(dir.path()).unwrap()), 70, "what a driver refuses is made anew");
    assert_eq!(first.cache.load(&source, &options), Some(code), "and kept in its place");
}

#[test]
fn a_damaged_file_is_compiled_anew() {
    let dir = tempfile::tempdir().unwrap();
    let Some(first) = device(dir.path()) else { return };
    conformance::check(&first);
    for file in std::fs::read_dir(dir.path()).unwrap() {
        let path = file.unwrap().path();
        let mut content = std::fs::read(&path).unwrap();
        let middle = content.len() / 2;
        content[middle] ^= 1;
        std::fs::write(&path, content).unwrap();
    }
    conformance::check(&device(dir.path()).unwrap());
}
