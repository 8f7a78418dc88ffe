use super::*;

#[test]
fn the_version_is_that_of_the_mapped_file() {
    let maps = "7f00-7f01 r-xp 0 08:01 12 /usr/lib/libc.so.6\n\
                7f02-7f03 r-xp 0 08:01 13 /opt/xilinx/xrt/lib/libxrt_coreutil.so.2.16.204\n";
    assert_eq!(version(maps), "2.16.204");
    assert_eq!(version("7f00-7f01 r-xp 0 08:01 12 /usr/lib/libc.so.6\n"), "");
    assert_eq!(version(""), "");
}

#[test]
fn versions_that_cannot_do_are_refused_as_a_wrong_driver() {
    for wrong in ["1.99.0", "2.7.1", "3.0.0"] {
        let failure = check(wrong).unwrap_err();
        assert_eq!(failure.fault, Fault::Driver);
        assert!(failure.detail.contains(wrong) && failure.detail.contains("2.8"), "{failure:?}");
    }
    for right in ["2.8.743", "2.13.0", "2.19.0", "", "2", "next"] {
        assert!(check(right).is_ok(), "{right}");
    }
}
