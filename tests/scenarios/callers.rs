//! Which programs get tokens: the executable decides, not what a caller says.

use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use policy_schema::Code;
use protocol::broker::{TOKEN, TokenRequest};

use super::fixture::{CURL, FILE_VAULT, sign_in_device};

#[tokio::test]
async fn only_allowed_programs_get_tokens_and_every_caller_is_listed() {
    let fixture = sign_in_device(FILE_VAULT).await;
    fixture.login().await;
    // Steward itself may.
    fixture.token().await.unwrap();
    let refused = fixture.token_request_by(CURL.as_ref(), &[]).await;
    assert!(refused.contains("broker.caller-refused") && refused.contains(CURL), "{refused}");
    assert!(refused.contains("AllowedApplications"), "{refused}");
    let callers = fixture.device.printed(&["broker", "callers"]).await;
    assert!(
        callers.contains(
            "/usr/bin/curl (Debian package curl)\n  refused: /v1/token once, last just now by process"
        ),
        "{callers}"
    );
    assert!(callers.contains("steward\n  allowed: /v1/token once"), "{callers}");
    let problem = fixture.device.problem(Code::BrokerCallerRefused).await;
    assert!(problem.message.contains(CURL), "{problem}");

    // A link to a program is that program; a copy is another one.
    let link = fixture.device.path("link");
    std::os::unix::fs::symlink(CURL, &link).unwrap();
    let copy = fixture.device.path("copy");
    fs_err::copy(CURL, &copy).unwrap();
    fixture.allow(&[&link.display().to_string()]).await;
    assert!(fixture.token_request_by(CURL.as_ref(), &[]).await.contains("access_token"));
    assert!(fixture.token_request_by(&link, &[]).await.contains("access_token"));
    let refused = fixture.token_request_by(&copy, &[]).await;
    assert!(refused.contains("broker.caller-refused"), "{refused}");
    // Only Steward itself may demand a renewal: a program that did so in a loop would overload the provider.
    let before = fixture.provider.refreshes();
    fixture.allow_tests().await;
    let request = TokenRequest { renew: true, ..TokenRequest::default() };
    let refused = fixture.device.call_broker(&TOKEN, &request).await.unwrap_err();
    assert!(refused.to_string().contains("only Steward itself"), "{refused}");
    assert_eq!(fixture.provider.refreshes(), before);
    let log = fixture.broker.log();
    assert_eq!(log.matches("may not have tokens").count(), 2, "once for each program: {log}");
}

/// An administrator names a program that the user has to agree to: no token before that, one question at a time, and a
/// new question after a sign-out.
#[tokio::test]
async fn program_to_confirm_gets_tokens_once_the_user_allowed_it_in_the_browser() {
    let mut fixture = sign_in_device(FILE_VAULT).await;
    let shown = fixture.device.path("shown");
    let browser = fixture.device.path("browser");
    let script = format!(
        "#!/bin/sh\ncase \"$1\" in */confirm/*) echo \"$1\" >> '{}' ;; *) exec '{}' \"$1\" ;; esac\n",
        shown.display(),
        e2e::process::program("scripted-browser").display()
    );
    fs_err::write(&browser, script).unwrap();
    fs_err::set_permissions(&browser, std::fs::Permissions::from_mode(0o755)).unwrap();
    fixture.device.set("BROWSER", &browser.display().to_string());
    fixture.restart_broker().await;
    fixture.login().await;
    let copy = fixture.device.path("copy");
    fs_err::copy(CURL, &copy).unwrap();
    fixture.allow(&[&format!("confirm:{CURL}"), &format!("confirm:{}", copy.display())]).await;

    // In the background nothing opens.
    let refused = fixture.token_request_by(CURL.as_ref(), &[]).await;
    assert!(refused.contains("broker.confirmation-needed") && refused.contains("interactive"), "{refused}");
    assert!(!shown.exists());

    let request = fixture.device.path("request");
    fs_err::write(&request, "{\"interactive\": true}").unwrap();
    let body = format!("@{}", request.display());
    let client = e2e::browser::client();
    let answer = async |number: usize, choice: &str| {
        let address = e2e::wait::until("the page", async || {
            let text = fs_err::read_to_string(&shown).unwrap_or_default();
            text.lines().nth(number).map(ToOwned::to_owned).ok_or(text)
        })
        .await;
        let page = client.get(&address).send().await.unwrap().text().await.unwrap();
        assert!(page.contains("Allow this program?") && page.contains("in your name"), "{page}");
        client.post(format!("{address}/{choice}")).send().await.unwrap().text().await.unwrap()
    };
    let asking = async |program: &std::path::Path| {
        let socket = fixture.socket();
        let json = "content-type: application/json";
        let arguments =
            ["-sS", "--unix-socket", &socket, "-H", json, "-d", &body, "http://localhost/v1/token"];
        fixture.device.output_of(program, &arguments).await
    };
    let (declined, page) = tokio::join!(asking(CURL.as_ref()), answer(0, "decline"));
    assert!(declined.contains("the user declined it"), "{declined}");
    assert!(page.contains("Declined") && page.contains(CURL), "{page}");
    let paused = asking(CURL.as_ref()).await;
    assert!(paused.contains("when asked a moment ago"), "{paused}");

    // Found by review: by signing the user out, the program was asked about again at once.
    let socket = fixture.socket();
    let json = "content-type: application/json";
    let sign_out = ["-sS", "--unix-socket", &socket, "-H", json, "-d", "{}", "http://localhost/v1/logout"];
    let refused = fixture.device.output_of(CURL.as_ref(), &sign_out).await;
    assert!(refused.contains("broker.confirmation-needed"), "{refused}");
    assert!(asking(CURL.as_ref()).await.contains("when asked a moment ago"));

    // Two requests at once get one page.
    let (first, second, _) = tokio::join!(asking(&copy), asking(&copy), answer(1, "allow"));
    assert!(first.contains("access_token") && second.contains("access_token"), "{first} {second}");
    assert!(fixture.token_request_by(&copy, &[]).await.contains("access_token"));
    fixture.restart_broker().await;
    assert!(fixture.token_request_by(&copy, &[]).await.contains("access_token"));
    assert_eq!(fs_err::read_to_string(&shown).unwrap().lines().count(), 2);

    fixture.device.printed(&["logout"]).await;
    fixture.login().await;
    let refused = fixture.token_request_by(&copy, &[]).await;
    assert!(refused.contains("broker.confirmation-needed"), "{refused}");
}

/// A script is run by its interpreter, which runs other scripts as well.
#[tokio::test]
async fn script_in_allowed_applications_is_refused() {
    let fixture = sign_in_device(FILE_VAULT).await;
    fixture.login().await;
    let script = fixture.device.path("script");
    let text = format!(
        "#!/usr/bin/python3\nimport socket\ns = socket.socket(socket.AF_UNIX)\ns.connect('{}')\n\
         s.sendall(b'POST /v1/token HTTP/1.1\\r\\nhost: localhost\\r\\nconnection: close\\r\\ncontent-length: 0\\r\\n\\r\\n')\n\
         print(s.makefile().read())\n",
        fixture.socket()
    );
    fs_err::write(&script, text).unwrap();
    fs_err::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    fixture.allow(&[&script.display().to_string()]).await;
    let printed = fixture.device.output_of(&script, &[]).await;
    assert!(printed.contains("broker.caller-refused") && printed.contains("which is a script"), "{printed}");
}

/// A program whose file was replaced while it ran is not the program that policy names.
#[tokio::test]
async fn caller_whose_program_file_was_replaced_is_refused() {
    let fixture = sign_in_device(FILE_VAULT).await;
    fixture.login().await;
    let program = fixture.device.path("app");
    fs_err::copy(CURL, &program).unwrap();
    fixture.allow(&[&program.display().to_string()]).await;
    assert!(fixture.token_request_by(&program, &[]).await.contains("access_token"));

    // It reads its request from a pipe that stays open until its file has been replaced.
    let pipe = fixture.device.path("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let from_pipe = format!("@{}", pipe.display());
    let more = ["-d", &from_pipe];
    let requesting = fixture.token_request_by(&program, &more);
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
    let (printed, ()) = tokio::join!(requesting, replacing);
    assert!(printed.contains("replaced or removed since it started"), "{printed}");
}

/// A program that is not allowed connects, leaves the connection to its child, and executes the program that policy names.
/// Its first request makes sure that the broker has accepted the connection before (SECURITY.md).
#[tokio::test]
async fn caller_that_executes_another_program_after_connecting_is_refused() {
    let fixture = sign_in_device(FILE_VAULT).await;
    fixture.login().await;
    let named = fixture.device.path("named");
    fs_err::copy("/usr/bin/sleep", &named).unwrap();
    fixture.allow(&[&named.display().to_string()]).await;
    let script = format!(
        "import os, socket, time\ns = socket.socket(socket.AF_UNIX)\ns.connect('{}')\ns.set_inheritable(True)\n\
         s.sendall(b'GET /v1/session HTTP/1.1\\r\\nhost: localhost\\r\\n\\r\\n')\ns.recv(65536)\n\
         if os.fork() == 0:\n    while os.readlink(f'/proc/{{os.getppid()}}/exe') != '{1}': time.sleep(0.01)\n    \
         s.sendall(b'POST /v1/token HTTP/1.1\\r\\nhost: localhost\\r\\nconnection: close\\r\\ncontent-length: 0\\r\\n\\r\\n')\n    \
         print(s.makefile().read(), flush=True)\n    os._exit(0)\nos.execv('{1}', ['named', '2'])\n",
        fixture.socket(),
        named.display()
    );
    let printed = fixture.device.output_of("/usr/bin/python3".as_ref(), &["-c", &script]).await;
    assert!(printed.contains("became another program since it connected"), "{printed}");
}

/// In its own mount namespace, a process can give its program any path: here, one that policy names.
#[tokio::test]
async fn caller_in_own_mount_namespace_is_refused() {
    let fixture = sign_in_device(FILE_VAULT).await;
    fixture.login().await;
    let named = fixture.device.path("named");
    fs_err::copy("/usr/bin/true", &named).unwrap();
    fs_err::set_permissions(&named, std::fs::Permissions::from_mode(0o755)).unwrap();
    fixture.allow(&[&named.display().to_string()]).await;
    let command = format!(
        "mount --bind {CURL} {0} && exec {0} -sS --unix-socket {1} -H 'content-type: application/json' -d '{{}}' \
         http://localhost/v1/token",
        named.display(),
        fixture.socket()
    );
    let printed =
        fixture.device.output_of("/usr/bin/unshare".as_ref(), &["--mount", "sh", "-c", &command]).await;
    assert!(printed.contains("broker.caller-refused") && !printed.contains("access_token"), "{printed}");
    assert!(printed.contains(&named.display().to_string()), "its path is one that policy allows: {printed}");
}

/// A browser that reaches the broker (through a forwarded port, or a name that resolves to this device) sends headers that
/// no app sends.
#[tokio::test]
async fn requests_of_web_pages_and_oversized_requests_are_refused() {
    let fixture = sign_in_device(FILE_VAULT).await;
    fixture.login().await;
    fixture.allow(&[CURL]).await;
    let socket = fixture.socket();
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
        let output = fixture.device.run(CURL.as_ref(), &arguments).await;
        assert_eq!(String::from_utf8_lossy(&output.stdout), code, "{header}");
    }
    let large = fixture.device.path("large");
    fs_err::write(&large, vec![b' '; 100_000]).unwrap();
    let printed = fixture.token_request_by(CURL.as_ref(), &["-d", &format!("@{}", large.display())]).await;
    assert!(printed.contains("too long"), "{printed}");
    let printed = fixture.token_request_by(CURL.as_ref(), &["-d", "{\"interactiv\": true}"]).await;
    assert!(printed.contains("is not understood"), "{printed}");
}

/// A program that opens connections and sends nothing does not keep others out, and uses only so many of them.
#[tokio::test]
async fn idle_connections_are_limited_and_block_nobody() {
    let fixture = sign_in_device(FILE_VAULT).await;
    fixture.login().await;
    let mut idle = Vec::new();
    for _ in 0..100 {
        idle.push(tokio::net::UnixStream::connect(fixture.socket()).await.unwrap());
    }
    // Those beyond its share get closed, and no other.
    let open = || idle.iter().filter(|stream| is_open(stream)).count();
    e2e::wait::until("the connections beyond its share closed", async || match open() {
        ..=64 => Ok(()),
        more => Err(more),
    })
    .await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(open(), 64);
    drop(idle);
    e2e::wait::until("a token", async || fixture.token().await).await;
}

fn is_open(stream: &tokio::net::UnixStream) -> bool {
    stream.try_read(&mut [0]).is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
}

/// Requests that are truncated, changed, repeated or random: the broker responds to each or closes its connection, and goes
/// on as before.
#[tokio::test]
async fn random_bytes_do_not_harm_the_broker() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let fixture = sign_in_device(FILE_VAULT).await;
    fixture.login().await;
    // A caller that is not allowed would be refused before its request is read.
    fixture.allow_tests().await;
    let request = |route: &str, body: &str| {
        format!(
            "POST {route} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    let seeds = [
        request("/v1/token", "{\"interactive\":false,\"scope\":\"openid email\",\"resource\":\"https://a.example\"}"),
        request("/v1/login/return", "{\"url\":\"http://localhost:18080/?code=a&state=b&iss=c\"}"),
        request("/v1/logout", "{\"account\":\"nobody\",\"all\":false}"),
        "GET /v1/session HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n".to_owned(),
    ];
    // The same bytes each time, so that a failure can be repeated; `cargo xtask fuzz` goes on with others for longer.
    let seconds = platform::environment::variable("STEWARD_NOISE_SECONDS");
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
            let position = next(bytes.len().max(1));
            match next(5) {
                0 => bytes.truncate(position),
                1 => bytes.insert(position, u8::try_from(next(256)).unwrap()),
                2 => bytes.extend_from_within(position..),
                3 => bytes.extend(std::iter::repeat_n(b'{', next(5000))),
                _ => {
                    if let Some(byte) = bytes.get_mut(position) {
                        *byte = u8::try_from(next(256)).unwrap();
                    }
                }
            }
        }
        let mut stream = tokio::net::UnixStream::connect(fixture.socket()).await.unwrap();
        // The broker may close the connection early.
        drop(stream.write_all(&bytes).await);
        drop(stream.shutdown().await);
        let mut response = Vec::new();
        let read = tokio::time::timeout(e2e::wait::LIMIT, stream.read_to_end(&mut response)).await;
        assert!(read.is_ok(), "round {round} of {first} has no end: {:?}", String::from_utf8_lossy(&bytes));
    }
    // Some of them may have been a sign-out.
    let printed = fixture.login().await;
    assert!(printed.contains("Signed in"), "{printed}");
    fixture.token().await.unwrap();
    assert!(!fixture.broker.log().contains("panicked"), "{first}: {}", fixture.broker.log());
}
