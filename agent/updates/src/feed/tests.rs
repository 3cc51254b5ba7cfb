use super::*;

fn feed(version: &str, url: &str, sha512: &str, size: &str) -> String {
    format!(
        "version: {version}\nfiles:\n  - url: {url}\n    sha512: {sha512}\n    size: {size}\npath: {url}\n\
         releaseDate: '2026-11-01T10:00:00.000Z'\n"
    )
}

fn hash() -> String {
    STANDARD.encode([7; 64])
}

const WANTED: Wanted<'_> =
    Wanted { endings: &[".tar.gz"], system: "linux", architecture: "x86_64", hosts: &[] };

fn parse_feed(text: &str) -> Result<Feed, FeedError> {
    parse(text.as_bytes(), &"https://updates.example.com/app/latest.yml".parse().unwrap(), &WANTED)
}

fn parse_text(text: &str) -> Result<Release, FeedError> {
    parse_feed(text).map(|feed| feed.releases[0].clone())
}

#[test]
fn feed_of_electron_builder_is_read() {
    let release = parse_text(&feed("2.1.0", "app-2.1.0.tar.gz", &hash(), "1234")).unwrap();
    assert_eq!(release.version, Version::new(2, 1, 0));
    assert_eq!(release.artifact.url.as_str(), "https://updates.example.com/app/app-2.1.0.tar.gz");
    assert_eq!((release.artifact.size, release.artifact.sha512), (1234, [7; 64]));
    assert_eq!(release.published, Some("2026-11-01T10:00:00Z".parse().unwrap()));
}

#[test]
fn hostile_or_broken_feed_is_refused_with_the_reason() {
    let cases = [
        (feed("latest", "a.tar.gz", &hash(), "1"), "not a version"),
        (feed(&format!("2.1.0-{}", "a".repeat(5000)), "a.tar.gz", &hash(), "1"), "not a version"),
        (feed("2.1.0", "a.exe", &hash(), "1"), "no .tar.gz"),
        (feed("2.1.0", "a.tar.gz", "AAAA", "1"), "not 64 bytes"),
        (feed("2.1.0", "a.tar.gz", &hash(), "0"), "not between"),
        (feed("2.1.0", "a.tar.gz", &hash(), "99999999999999"), "not between"),
        (feed("2.1.0", "a.tar.gz", &hash(), "-1"), "not a release feed"),
        (feed("2.1.0", "https://evil.example/a.tar.gz", &hash(), "1"), "not on the host"),
        (feed("2.1.0", "http://updates.example.com/a.tar.gz", &hash(), "1"), "not on the host"),
        (feed("2.1.0", "file:///etc/a.tar.gz", &hash(), "1"), "not on the host"),
        ("<html>Please log in</html>".to_owned(), "not a release feed"),
        (String::new(), "not a release feed"),
        (feed("2.1.0", "a.tar.gz", &hash(), "1")[..60].to_owned(), "not a release feed"),
    ];
    for (text, expected) in cases {
        let error = parse_text(&text).unwrap_err().to_string();
        assert!(error.contains(expected), "{text}: {error}");
        assert!(error.lines().count() == 1, "{error}");
    }
}

#[test]
fn brakes_of_the_vendor_are_read_and_unknown_ones_named() {
    let read = |more: &str| {
        let text = format!("{}{more}", feed("2.1.0", "a.tar.gz", &hash(), "1"));
        parse_feed(&text).unwrap()
    };
    let with = |more: &str| read(more).releases[0].brakes.clone();
    assert_eq!(with(""), Brakes::default());
    for (text, share) in
        [("10", 1000), ("'25%'", 2500), ("99.9", 9990), ("many", 0), ("-1", 0), ("101", 0), ("[]", 0)]
    {
        assert_eq!(with(&format!("stagingPercentage: {text}\n")).staging, Some(share), "{text}");
    }
    assert_eq!(with("minimumSystemVersion: 10.0.22000\n").minimum_system.as_deref(), Some("10.0.22000"));
    assert_eq!(with("minimumSystemVersion: 22\n").minimum_system.as_deref(), Some("22"));
    // 6.1 or 6.10?
    assert_eq!(with("minimumSystemVersion: 6.10\n").minimum_system.as_deref(), Some("(6.1)"));
    let long = read(&format!("hold{}: x\n", "d".repeat(500)));
    assert_eq!(long.unknown[0].len(), MAXIMUM_SHOWN);
    let found = read("releaseNotes: x\nsha512: y\nrolloutGroups: [a]\nrequiredSystem: z\n");
    assert_eq!(found.unknown, ["requiredSystem", "rolloutGroups"]);
}

#[test]
fn yaml_bomb_is_refused() {
    let level = |level: u32| {
        let previous = vec![format!("*a{}", level - 1); 9].join(", ");
        format!("a{level}: &a{level} [{previous}]\n")
    };
    let bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned() + &(1..12).map(level).collect::<String>();
    assert!(parse_text(&(bomb + &feed("2.1.0", "a.tar.gz", &hash(), "1"))).is_err());
    assert!(parse_text(&"[".repeat(100_000)).is_err());
}

fn releases(entries: &str) -> String {
    format!("{{\"format\": 1, \"releases\": [{entries}]}}")
}

fn entry(version: &str, more: &str) -> String {
    let hash = "07".repeat(64);
    format!(
        "{{\"version\": \"{version}\"{more}, \"files\": [\
         {{\"system\": \"windows\", \"url\": \"a.exe\", \"sha512\": \"{hash}\", \"size\": 1}}, \
         {{\"system\": \"linux\", \"architecture\": \"aarch64\", \"url\": \"arm.tar.gz\", \"sha512\": \"{hash}\", \"size\": 1}}, \
         {{\"url\": \"{version}.tar.gz\", \"sha512\": \"{hash}\", \"size\": 7}}]}}"
    )
}

#[test]
fn feed_with_many_releases_gives_those_for_this_device_newest_first() {
    let text = releases(
        &[
            entry("1.9.0", ""),
            entry("2.1.0-beta.1", ", \"channel\": \"beta\", \"rolloutPercent\": 10, \"rolloutSalt\": \"x\""),
            entry("2.0.0", ", \"published\": \"2026-11-01T10:00:00Z\""),
            entry("2.2.0", ", \"withdrawn\": true"),
        ]
        .join(","),
    );
    let feed = parse_feed(&text).unwrap();
    let versions: Vec<String> = feed.releases.iter().map(|release| release.version.to_string()).collect();
    assert_eq!(versions, ["2.1.0-beta.1", "2.0.0", "1.9.0"]);
    let [beta, stable, _] = &feed.releases[..] else { panic!("three") };
    assert_eq!((beta.channel.as_deref(), beta.salt.as_deref()), (Some("beta"), Some("x")));
    assert_eq!(beta.brakes.staging, Some(1000));
    assert_eq!(stable.artifact.url.as_str(), "https://updates.example.com/app/2.0.0.tar.gz");
    assert_eq!((stable.artifact.size, stable.artifact.sha512), (7, [7; 64]));
    assert_eq!(parse_feed(&releases(&entry("1.0.0", ", \"withdrawn\": true"))).unwrap(), Feed::default());
    assert_eq!(parse_feed(&releases("")).unwrap(), Feed::default());
}

#[test]
fn wrong_feed_with_many_releases_is_refused_with_the_reason() {
    let other = entry("1.0.0", "").replace("1.0.0.tar.gz", "https://evil.example/a.tar.gz");
    let only_windows = entry("1.0.0", "").replace(".tar.gz", ".zip");
    for (text, expected) in [
        (releases(&entry("one", "")), "`one` is not a version"),
        (releases(&other), "not on the host"),
        (releases(&only_windows), "no .tar.gz file for linux on x86_64"),
        (releases(&[entry("1.0.0", ""), entry("1.0.0", "")].join(",")), "a version twice"),
        (releases(&vec!["{\"version\": \"1.0.0\", \"files\": []}"; 1001].join(",")), "more than 1000"),
        (releases("{\"version\": 1}"), "not a release feed"),
        (releases("").replace(": 1,", ": 2,"), "format 2"),
        (releases(&format!("{},", entry("1.0.0", ""))), "line 1 column 652"),
    ] {
        let error = parse_feed(&text).unwrap_err().to_string();
        assert!(error.contains(expected), "{text}: {error}");
    }
}

#[test]
fn name_of_a_file_is_compared_without_its_query_and_in_any_capitals() {
    for url in ["A.TAR.GZ", "a.tar.gz?token=1"] {
        assert!(parse_text(&feed("2.1.0", url, &hash(), "1")).is_ok(), "{url}");
    }
    assert!(parse_text(&feed("2.1.0", "a.exe?x=.tar.gz", &hash(), "1")).is_err());
}

#[test]
fn named_host_is_allowed_over_https_only() {
    let base = "http://127.0.0.1:80/latest.yml".parse().unwrap();
    let hosts = ["cdn.example.com", ".example.org"].map(ToOwned::to_owned);
    for (url, expected) in [
        ("http://127.0.0.1:80/a", true),
        ("http://127.0.0.1:81/a", false),
        ("https://CDN.example.com/a", true),
        ("http://cdn.example.com/a", false),
        ("https://x.cdn.example.com/a", false),
        ("https://a.b.example.org/a", true),
        ("https://example.org/a", true),
        ("https://badexample.org/a", false),
        ("file:///etc/passwd", false),
    ] {
        assert_eq!(allows(&base, &hosts, &url.parse().unwrap()), expected, "{url}");
    }
}

proptest::proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(text in "[\\x00-\\x7f]{0,200}", bytes in proptest::collection::vec(0_u8.., 0..200)) {
        drop(parse_feed(&text));
        drop(parse_feed(&releases(&text)));
        drop(parse(&bytes, &"https://updates.example.com/".parse().unwrap(), &WANTED));
    }
}
