use super::*;

#[test]
fn a_query_names_a_site_or_none() {
    let check = |query: &str, wanted: Option<&str>| {
        let site = chosen(query).unwrap().map(|site| site.to_string());
        assert_eq!(site.as_deref(), wanted, "{query}");
    };
    check("", None);
    check("a=b", None);
    check("site=cloud", Some("cloud"));
    check("a=b&site=cloud.east&c", Some("cloud.east"));
    check("site=cloud%2Eeast", Some("cloud.east"));
    for wrong in ["site=", "site=a..b", "site=%ff", "site=A", "site=cloud.*", "site=a.%3E"] {
        let problem = chosen(wrong).unwrap_err();
        assert!(problem.detail().starts_with("site: "), "{wrong}: {}", problem.detail());
    }
}

#[test]
fn the_page_needs_nothing_from_elsewhere() {
    for word in ["http://", "https://", "//cdn", "@import", "src=", "innerHTML"] {
        assert!(!PAGE.contains(word), "{word}");
    }
    assert!(PAGE.len() < 16 << 10, "{} bytes", PAGE.len());
}
