use proptest::prelude::*;

use super::*;

fn app(routes: &[&str]) -> Manifest {
    let handlers: String = routes
        .iter()
        .enumerate()
        .map(|(at, route)| {
            format!(
                "[[handler]]\nname = \"h{at}\"\ncomponent = \"h.wasm\"\n\
                 [[handler.trigger]]\nhttp = \"{route}\"\n"
            )
        })
        .collect();
    Manifest::parse(&format!("[app]\nname = \"shop\"\n{handlers}")).unwrap()
}

const ROUTES: [&str; 8] = [
    "GET /",
    "GET /things",
    "POST /things",
    "GET /things/{id}",
    "GET /things/new",
    "ANY /files/{path+}",
    "DELETE /things/{id}",
    "GET /files/readme.txt",
];

#[track_caller]
fn check(method: &str, path: &str, wanted: &str) {
    let app = app(&ROUTES);
    let found = match app.route(method, path) {
        Ok(matched) => {
            let mut text = matched.route.to_string();
            for (name, value) in &matched.parameters {
                text += &format!(" {name}={value}");
            }
            text
        }
        Err(NoRoute::Method(allowed)) => format!("allow {}", allowed.join(",")),
        Err(other) => format!("{other:?}"),
    };
    assert_eq!(found, wanted, "{method} {path}");
}

#[test]
fn the_nearest_route_takes_a_request() {
    check("GET", "", "GET /");
    check("GET", "/", "GET /");
    check("GET", "/things", "GET /things");
    check("HEAD", "/things", "GET /things");
    check("POST", "/things", "POST /things");
    check("GET", "/things/42", "GET /things/{id} id=42");
    check("GET", "/things/new", "GET /things/new");
    check("DELETE", "/things/new", "DELETE /things/{id} id=new");
    check("GET", "/things/a%20b%2Fc%C3%A9", "GET /things/{id} id=a b/cé");
    check("PATCH", "/files/a/b", "ANY /files/{path+} path=a/b");
    check("GET", "/files/readme.txt", "GET /files/readme.txt");
    check("POST", "/files/readme.txt", "ANY /files/{path+} path=readme.txt");
    check("PUT", "/things/42", "allow DELETE,GET");
    check("GET", "/other", "NotFound");
    check("GET", "/things/", "NotFound");
    check("GET", "//things", "NotFound");
    check("GET", "/files", "NotFound");
    check("GET", "/things/%4", "BadPath");
    check("GET", "/things/%ff", "BadPath");
    check("GET", "/things/%zz", "BadPath");
}

#[test]
fn wrong_routes_are_refused_with_the_mend() {
    for (route, wanted) in [
        ("/things", "write a method and a path"),
        ("FETCH /things", "unknown method \"FETCH\""),
        ("GET things", "must start with /"),
        ("GET /a//b", "an empty segment"),
        ("GET /a/", "an empty segment"),
        ("GET /{rest+}/a", "can only stand last"),
        ("GET /{a}/{a}", "stands twice"),
        ("GET /{a-b}", "is no parameter"),
        ("GET /a?b", "is no segment"),
    ] {
        let error = Route::parse(route).unwrap_err();
        assert!(error.contains(wanted), "{route}: {error}");
    }
}

proptest! {
    #[test]
    fn a_route_reads_back_what_it_shows(path in "(/([a-z.]{1,6}|\\{[a-z]{1,3}[0-9]{2}\\})){0,5}") {
        let text = format!("GET {}", if path.is_empty() { "/" } else { path.as_str() });
        if let Ok(route) = Route::parse(&text) {
            prop_assert_eq!(route.to_string(), text);
            prop_assert!(route.collides(&route));
        }
    }

    #[test]
    fn any_path_is_answered_without_a_panic(method in "[A-Z]{0,8}", path in "\\PC{0,64}") {
        let _ = app(&ROUTES).route(&method, &path);
    }
}
