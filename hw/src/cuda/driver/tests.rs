use super::*;

#[test]
fn codes_are_sorted_by_what_to_do() {
    let sorted = |code| failed("cuda0", "launch", DriverError(code));
    assert!(matches!(sorted(CUresult::CUDA_ERROR_ILLEGAL_ADDRESS), Error::Lost { .. }));
    assert!(matches!(sorted(CUresult::CUDA_ERROR_INVALID_VALUE), Error::Failed { .. }));
    let full = sorted(CUresult::CUDA_ERROR_OUT_OF_MEMORY);
    assert_eq!(full.to_string(), "device cuda0: no memory");
    for code in [
        CUresult::CUDA_ERROR_SYSTEM_DRIVER_MISMATCH,
        CUresult::CUDA_ERROR_UNSUPPORTED_PTX_VERSION,
        CUresult::CUDA_ERROR_NO_BINARY_FOR_GPU,
        CUresult::CUDA_ERROR_STUB_LIBRARY,
    ] {
        assert!(matches!(sorted(code), Error::Driver { .. }), "{code:?}");
    }
}

#[test]
fn a_driver_that_is_too_old_is_refused_before_it_is_opened() {
    assert_eq!(check_version("cuda0", 13_000, (13, 1)), Ok(()));
    assert_eq!(check_version("cuda0", 14_020, (13, 0)), Ok(()));
    let old = check_version("cuda0", 12_080, (13, 0)).unwrap_err();
    assert!(matches!(old, Error::Driver { .. }));
    let said = "device cuda0: driver: CUDA 12.8 loads no code of NVRTC 13.0: update the driver";
    assert_eq!(old.to_string(), said);
}
