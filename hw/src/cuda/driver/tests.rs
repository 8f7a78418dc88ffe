use super::*;

#[test]
fn codes_are_sorted_by_what_to_do() {
    let lost = failed("cuda0", "launch", DriverError(CUresult::CUDA_ERROR_ILLEGAL_ADDRESS));
    assert!(matches!(lost, Error::Lost { .. }));
    let failed = failed("cuda0", "launch", DriverError(CUresult::CUDA_ERROR_INVALID_VALUE));
    assert!(matches!(failed, Error::Failed { .. }));
}
