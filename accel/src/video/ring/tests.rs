use std::fs::File;
use std::os::unix::fs::MetadataExt;

use super::*;

/// How often this process has the memory of this number: as an open file, or mapped.
pub(in crate::video) fn traces(inode: u64) -> usize {
    let is_it = |path: std::path::PathBuf| {
        let link = std::fs::read_link(&path).unwrap_or_default();
        let is_named = link.to_string_lossy().contains("edgescale-frames");
        is_named && std::fs::metadata(path).is_ok_and(|file| file.ino() == inode)
    };
    let files = std::fs::read_dir("/proc/self/fd").unwrap();
    let open = files.filter(|file| file.as_ref().is_ok_and(|file| is_it(file.path()))).count();
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let number = inode.to_string();
    let is_mapped =
        |line: &&str| line.contains("edgescale-frames") && line.split(' ').any(|w| w == number);
    open + maps.lines().filter(is_mapped).count()
}

impl Ring {
    pub(in crate::video) fn inode(&self) -> u64 {
        File::from(self.for_child().unwrap()).metadata().unwrap().ino()
    }
}

fn mapped(ring: &Ring) -> Mapped {
    Mapped::of(ring.for_child().unwrap()).expect("it is such memory")
}

#[test]
fn both_sides_see_one_memory() {
    let ring = Ring::create().unwrap();
    let mut memory = mapped(&ring);
    for bytes in [1, 4096, 4097, 1_382_400] {
        for slot in 0..SLOTS_MAX {
            memory.slot(slot, bytes).unwrap().fill(1 + slot as u8);
        }
        for slot in 0..SLOTS_MAX {
            let mut back = vec![0; bytes];
            ring.read(slot, &mut back).unwrap();
            assert!(back.iter().all(|byte| usize::from(*byte) == 1 + slot), "{slot} of {bytes}");
            ring.write(slot, &vec![9; bytes]).unwrap();
            assert!(memory.slot(slot, bytes).unwrap().iter().all(|byte| *byte == 9));
        }
    }
}

#[test]
fn slots_lie_within_the_memory_or_are_not_there() {
    for bytes in [0, 1, 4095, 3 << 20, RING_BYTES / 3, RING_BYTES / 2, RING_BYTES, 1 << 31] {
        let count = slots(bytes);
        let apart = bytes.max(1).next_multiple_of(PAGE_BYTES);
        assert!(count * apart <= RING_BYTES && count <= SLOTS_MAX, "{bytes}");
        assert!(count == SLOTS_MAX || (count + 1) * apart > RING_BYTES, "{bytes}");
        assert_eq!(start(count, bytes), None);
        assert!(count == 0 || start(count - 1, bytes).unwrap() + bytes <= RING_BYTES);
    }
    let ring = Ring::create().unwrap();
    let error = ring.read(SLOTS_MAX, &mut [0; 10]).unwrap_err().to_string();
    assert_eq!(error, "there is no slot 3 of 10 bytes");
    assert!(ring.write(usize::MAX, &[0; 10]).is_err());
    assert!(mapped(&ring).slot(SLOTS_MAX, 10).is_none());
}

#[test]
fn nobody_changes_the_size() {
    let ring = Ring::create().unwrap();
    let child = File::from(ring.for_child().unwrap());
    for bytes in [0, 4096, 2 * RING_BYTES as u64] {
        assert!(child.set_len(bytes).is_err(), "{bytes}");
    }
    // It is there as a whole, though nothing of it was written and it takes no memory yet.
    assert_eq!(child.metadata().unwrap().blocks(), 0);
    let mut back = vec![1; RING_BYTES];
    ring.read(0, &mut back).unwrap();
    assert!(back.iter().all(|byte| *byte == 0));
}

#[test]
fn what_is_no_such_memory_is_not_mapped() {
    assert!(Mapped::of(File::open("/dev/null").unwrap()).is_none());
    let (reading, _writing) = std::io::pipe().unwrap();
    assert!(Mapped::of(reading).is_none());
    let plain = tempfile::tempfile().unwrap();
    plain.set_len(RING_BYTES as u64).unwrap();
    assert!(Mapped::of(plain).is_none());
}

#[test]
fn nothing_stays_behind() {
    let ring = Ring::create().unwrap();
    let inode = ring.inode();
    let memory = mapped(&ring);
    assert_eq!(traces(inode), 3, "a file, and mapped twice");
    drop(ring);
    assert_eq!(traces(inode), 1, "it is still mapped");
    drop(memory);
    assert_eq!(traces(inode), 0);
}
