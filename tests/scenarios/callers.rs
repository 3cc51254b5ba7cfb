//! Who gets tokens: the program counts, not what it says of itself.

use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use super::office::{CURL, FILE_VAULT, office};

#[tokio::test]
async fn only_the_programs_of_policy_get_tokens_and_everybody_is_told_who_asked() {
    let office = office(FILE_VAULT).await;
    office.device.printed(&["login"]).await;
    // Steward itself may.
    office.token().await.unwrap();
    let refused = office.asked_by(CURL.as_ref(), &[]).await;
    assert!(refused.contains("broker.caller-refused") && refused.contains(CURL), "{refused}");
    assert!(refused.contains("AllowedApplications"), "{refused}");
    let callers = office.device.printed(&["broker", "callers"]).await;
    assert!(
        callers.contains(
            "/usr/bin/curl (Debian package curl)\n  refused: /v1/token once, last just now by process"
        ),
        "{callers}"
    );
    assert!(callers.contains("steward\n  allowed: /v1/token once"), "{callers}");
    let problem = office.device.problem("broker.caller-refused").await;
    assert!(problem["message"].as_str().unwrap().contains(CURL), "{problem}");

    // A link leads to the program; a copy is another program.
    let link = office.device.path("link");
    std::os::unix::fs::symlink(CURL, &link).unwrap();
    let copy = office.device.path("copy");
    fs_err::copy(CURL, &copy).unwrap();
    office.allow(&[&link.display().to_string()]).await;
    assert!(office.asked_by(CURL.as_ref(), &[]).await.contains("access_token"));
    assert!(office.asked_by(&link, &[]).await.contains("access_token"));
    let refused = office.asked_by(&copy, &[]).await;
    assert!(refused.contains("broker.caller-refused"), "{refused}");
    // Renewing at will is for Steward itself: a program that did so in a loop would use the provider up.
    let before = office.provider.refreshes();
    let answer = office.post("/v1/token", &serde_json::json!({ "renew": true })).await;
    assert!(answer["error"]["message"].as_str().unwrap().contains("only Steward itself"), "{answer}");
    assert_eq!(office.provider.refreshes(), before);
    let log = office.broker.log();
    assert_eq!(log.matches("may not have tokens").count(), 2, "once for each program: {log}");
}

/// A script is run by its interpreter, which runs others as well.
#[tokio::test]
async fn a_script_cannot_be_allowed_and_policy_is_told_so() {
    let office = office(FILE_VAULT).await;
    office.device.printed(&["login"]).await;
    let script = office.device.path("ask");
    let text = format!(
        "#!/usr/bin/python3\nimport socket\ns = socket.socket(socket.AF_UNIX)\ns.connect('{}')\n\
         s.sendall(b'POST /v1/token HTTP/1.1\\r\\nhost: localhost\\r\\nconnection: close\\r\\ncontent-length: 0\\r\\n\\r\\n')\n\
         print(s.makefile().read())\n",
        office.socket()
    );
    fs_err::write(&script, text).unwrap();
    fs_err::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    office.allow(&[&script.display().to_string()]).await;
    let said = office.device.run(&script, &[]).await;
    let said = String::from_utf8_lossy(&[said.stdout, said.stderr].concat()).into_owned();
    assert!(said.contains("broker.caller-refused") && said.contains("which is a script"), "{said}");
}

/// A program that was replaced while it ran is not the one that policy names, and neither is the old one.
#[tokio::test]
async fn a_program_that_was_replaced_while_it_runs_is_refused() {
    let office = office(FILE_VAULT).await;
    office.device.printed(&["login"]).await;
    let program = office.device.path("app");
    fs_err::copy(CURL, &program).unwrap();
    office.allow(&[&program.display().to_string()]).await;
    assert!(office.asked_by(&program, &[]).await.contains("access_token"));

    // It reads its question from a pipe that stays open until it has been replaced.
    let pipe = office.device.path("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let from_pipe = format!("@{}", pipe.display());
    let more = ["-d", &from_pipe];
    let asking = office.asked_by(&program, &more);
    let replacing = async {
        let opened = tokio::task::spawn_blocking({
            let pipe = pipe.clone();
            move || fs_err::OpenOptions::new().write(true).open(pipe)
        });
        let writer = opened.await.unwrap().unwrap();
        fs_err::remove_file(&program).unwrap();
        fs_err::copy("/usr/bin/true", &program).unwrap();
        drop(writer);
    };
    let (said, ()) = tokio::join!(asking, replacing);
    assert!(said.contains("replaced or removed since it started"), "{said}");
}

/// A program of a stranger connects, leaves the connection to its child, and becomes the program that policy names. Its
/// first question makes sure that it was accepted before; until then nobody knows what it was (SECURITY.md).
#[tokio::test]
async fn who_becomes_another_program_after_connecting_is_neither() {
    let office = office(FILE_VAULT).await;
    office.device.printed(&["login"]).await;
    let named = office.device.path("named");
    fs_err::copy("/usr/bin/sleep", &named).unwrap();
    office.allow(&[&named.display().to_string()]).await;
    let script = format!(
        "import os, socket, time\ns = socket.socket(socket.AF_UNIX)\ns.connect('{}')\ns.set_inheritable(True)\n\
         s.sendall(b'GET /v1/session HTTP/1.1\\r\\nhost: localhost\\r\\n\\r\\n')\ns.recv(65536)\n\
         if os.fork() == 0:\n    while os.readlink(f'/proc/{{os.getppid()}}/exe') != '{1}': time.sleep(0.01)\n    \
         s.sendall(b'POST /v1/token HTTP/1.1\\r\\nhost: localhost\\r\\nconnection: close\\r\\ncontent-length: 0\\r\\n\\r\\n')\n    \
         print(s.makefile().read(), flush=True)\n    os._exit(0)\nos.execv('{1}', ['named', '2'])\n",
        office.socket(),
        named.display()
    );
    let said = office.device.run("/usr/bin/python3".as_ref(), &["-c", &script]).await;
    let said = String::from_utf8_lossy(&[said.stdout, said.stderr].concat()).into_owned();
    assert!(said.contains("became another program since it connected"), "{said}");
}

/// In a mount namespace of its own, a process may give its program any path: here, one that policy names.
#[tokio::test]
async fn another_view_of_the_file_system_makes_no_other_program() {
    let office = office(FILE_VAULT).await;
    office.device.printed(&["login"]).await;
    let named = office.device.path("named");
    fs_err::copy("/usr/bin/true", &named).unwrap();
    fs_err::set_permissions(&named, std::fs::Permissions::from_mode(0o755)).unwrap();
    office.allow(&[&named.display().to_string()]).await;
    let ask = format!(
        "mount --bind {CURL} {0} && exec {0} -sS --unix-socket {1} -H 'content-type: application/json' -d '{{}}' \
         http://localhost/v1/token",
        named.display(),
        office.socket()
    );
    let output = office.device.run("/usr/bin/unshare".as_ref(), &["--mount", "sh", "-c", &ask]).await;
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(said.contains("broker.caller-refused") && !said.contains("access_token"), "{said}");
    assert!(said.contains(&named.display().to_string()), "it runs under the name that policy allows: {said}");
}

/// A browser that somehow reaches the broker (through a forwarded port, or a name that leads to this device) brings
/// headers that no app sends.
#[tokio::test]
async fn no_web_page_reaches_the_broker_and_questions_have_limits() {
    let office = office(FILE_VAULT).await;
    office.device.printed(&["login"]).await;
    office.allow(&[CURL]).await;
    let socket = office.socket();
    for (header, code) in [
        ("Host: evil.example", "421"),
        ("Host: localhost:8080", "421"),
        ("Origin: https://evil.example", "403"),
        ("Origin: null", "403"),
        ("Sec-Fetch-Site: cross-site", "403"),
        ("Referer: http://localhost/", "403"),
        ("content-type: text/plain", "415"),
        ("content-type: application/x-www-form-urlencoded", "415"),
        ("content-type: application/json; charset=utf-8", "200"),
    ] {
        let headers = ["-H", "content-type: application/json", "-H", header];
        let headers = if header.starts_with("content-type") { &headers[2..] } else { &headers[..] };
        let rest = ["-sS", "-d", "{}", "-o", "/dev/null", "-w", "%{http_code}", "--unix-socket", &socket];
        let arguments = [headers, &rest[..], &["http://localhost/v1/token"]].concat();
        let output = office.device.run(CURL.as_ref(), &arguments).await;
        assert_eq!(String::from_utf8_lossy(&output.stdout), code, "{header}");
    }
    let large = office.device.path("large");
    fs_err::write(&large, vec![b' '; 100_000]).unwrap();
    let said = office.asked_by(CURL.as_ref(), &["-d", &format!("@{}", large.display())]).await;
    assert!(said.contains("too long"), "{said}");
    let said = office.asked_by(CURL.as_ref(), &["-d", "{\"interactiv\": true}"]).await;
    assert!(said.contains("is not understood"), "{said}");
}

/// One program that opens connections and says nothing does not keep others out for ever, and takes no memory.
#[tokio::test]
async fn silent_connections_have_a_limit() {
    let office = office(FILE_VAULT).await;
    office.device.printed(&["login"]).await;
    let mut silent = Vec::new();
    for _ in 0..100 {
        silent.push(tokio::net::UnixStream::connect(office.socket()).await.unwrap());
    }
    // More than its share were closed at once.
    let mut open = 0;
    for stream in &silent {
        let closed = tokio::time::timeout(std::time::Duration::from_millis(20), stream.readable()).await;
        open += usize::from(closed.is_err());
    }
    assert_eq!(open, 64);
    drop(silent);
    e2e::wait::until("an answer", async || office.token().await).await;
}

/// Questions that are cut, changed, repeated or nothing but noise: each is answered or dropped, none harms, and the next
/// one is answered as if nothing had been.
#[tokio::test]
async fn foreign_bytes_do_the_broker_no_harm() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let office = office(FILE_VAULT).await;
    office.device.printed(&["login"]).await;
    // Else it would be refused before it was read.
    office.allow(&[&std::env::current_exe().unwrap().display().to_string()]).await;
    let question = |route: &str, body: &str| {
        format!(
            "POST {route} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    let seeds = [
        question("/v1/token", "{\"interactive\":false,\"scope\":\"openid email\",\"resource\":\"https://a.example\"}"),
        question("/v1/login/return", "{\"url\":\"http://localhost:18080/?code=a&state=b&iss=c\"}"),
        question("/v1/logout", "{\"account\":\"nobody\",\"all\":false}"),
        "GET /v1/session HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n".to_owned(),
    ];
    // The same noise each time, so that a failure can be had again; `cargo xtask fuzz` goes on with other noise for longer.
    let seconds = agent_platform::environment::variable("STEWARD_NOISE_SECONDS");
    let longer = Duration::from_secs(seconds.map_or(0, |text| text.parse().unwrap()));
    let begun = tokio::time::Instant::now();
    let mut noise = 0x9e37_79b9_7f4a_7c15_u64;
    if !longer.is_zero() {
        noise ^= u64::from(std::process::id()) << 20;
    }
    let first = noise;
    let mut next = |below: usize| {
        noise ^= noise << 13;
        noise ^= noise >> 7;
        noise ^= noise << 17;
        usize::try_from(noise % below as u64).unwrap()
    };
    for round in (0..).take_while(|round| *round < 400 || begun.elapsed() < longer) {
        let mut bytes = seeds[next(seeds.len())].clone().into_bytes();
        for _ in 0..=next(6) {
            let place = next(bytes.len().max(1));
            match next(5) {
                0 => bytes.truncate(place),
                1 => bytes.insert(place, u8::try_from(next(256)).unwrap()),
                2 => bytes.extend_from_within(place..),
                3 => bytes.extend(std::iter::repeat_n(b'{', next(5000))),
                _ => {
                    if let Some(byte) = bytes.get_mut(place) {
                        *byte = u8::try_from(next(256)).unwrap();
                    }
                }
            }
        }
        let mut stream = tokio::net::UnixStream::connect(office.socket()).await.unwrap();
        // It may hang up in the middle, which is its right.
        drop(stream.write_all(&bytes).await);
        drop(stream.shutdown().await);
        let mut answer = Vec::new();
        let read = tokio::time::timeout(e2e::wait::LIMIT, stream.read_to_end(&mut answer)).await;
        assert!(read.is_ok(), "round {round} of {first} has no end: {:?}", String::from_utf8_lossy(&bytes));
    }
    // Some of it may have been a sign-out.
    let said = office.device.printed(&["login"]).await;
    assert!(said.contains("Signed in"), "{said}");
    office.token().await.unwrap();
    assert!(!office.broker.log().contains("panicked"), "{first}: {}", office.broker.log());
}
