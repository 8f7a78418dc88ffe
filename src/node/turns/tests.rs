use super::*;

#[test]
fn jobs_go_where_they_are_done_first_unless_an_operator_says_otherwise() {
    let settings: Settings = toml::from_str("share = 2").unwrap();
    assert_eq!(settings.prefer, Prefer::Fastest);
    let settings: Settings = toml::from_str("prefer = \"accelerator\"").unwrap();
    assert_eq!(settings.prefer, Prefer::Accelerator);
    let wrong = toml::from_str::<Settings>("prefer = \"gpu\"").unwrap_err();
    assert!(wrong.to_string().contains("`fastest`"), "{wrong}");
}

#[test]
fn what_is_withheld_is_named_as_apps_do() {
    let settings: Settings = toml::from_str("withhold = [\"gpu\", \"encode.h264\"]").unwrap();
    assert_eq!(Vec::from_iter(settings.withhold), [DeviceClass::Gpu, DeviceClass::EncodeH264]);
    assert!(toml::from_str::<Settings>("withhold = [\"tpu\"]").is_err());
}
