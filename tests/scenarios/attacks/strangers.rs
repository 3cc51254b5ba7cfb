//! Another user of the same device.

use e2e::browser;
use e2e::device::Device;
use e2e::interactive::Interactive;
use e2e::wait::until;
use protocol::session::SessionState;

use super::super::fixture::{CURL, FILE_VAULT, sign_in_device};
use super::{as_other_user, start_as_other_user};

/// The lock was a file that everybody could open, and whoever can open a file can lock it: the service did not start.
#[tokio::test]
async fn other_user_cannot_lock_the_service_out() {
    let device = Device::new();
    let state = device.path("var/lib/steward");
    fs_err::create_dir_all(&state).unwrap();
    // As versions before this one left it.
    fs_err::write(state.join("agent.lock"), "").unwrap();
    let agent = device.start_agent().await;
    agent.stop().await;
    for lock in ["agent.lock", "private/agent.lock"] {
        let path = state.join(lock).display().to_string();
        let holder = format!(
            "import fcntl, time\ntry:\n f = open('{path}')\n fcntl.flock(f, fcntl.LOCK_EX)\n print('locked', flush=True)\n time.sleep(60)\nexcept OSError as error:\n print(error, flush=True)"
        );
        let process = start_as_other_user(&device, &holder);
        until("what became of the lock", async || {
            let said = process.log();
            if said.trim().is_empty() { Err("nothing yet") } else { Ok(()) }
        })
        .await;
        let agent = device.start_agent().await;
        agent.stop().await;
        process.kill().await;
    }
}

/// The other user knew the state from the browser's command line, signed in as himself, and delivered his code.
#[tokio::test]
async fn other_user_cannot_deliver_a_code_nor_see_the_last_page() {
    let fixture = sign_in_device(FILE_VAULT).await;
    let mut login = Interactive::steward(&fixture.device, &["login", "--no-browser"]);
    let address = login.next_address().await;
    assert!(!address.contains("state=") && !address.contains("code_challenge"), "{address}");
    let redirect = browser::sign_in(&address).await;
    for stolen in [&address, &redirect] {
        let output = as_other_user(&fixture.device, &[CURL, "-sS", "-i", "--max-time", "10", stolen]).await;
        let answer = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(!output.status.success() && answer.is_empty(), "it was answered: {answer}");
    }
    assert_eq!(fixture.session().await.state, SessionState::SigningIn);
    // The right user comes back, and only he sees how it ended.
    let client = browser::client_without_redirects();
    let response = client.get(&redirect).send().await.unwrap();
    let last = response.headers().get("location").unwrap().to_str().unwrap().to_owned();
    let page = format!("http://localhost:{}{last}", fixture.port);
    let output = as_other_user(&fixture.device, &[CURL, "-sS", "-i", "--max-time", "10", &page]).await;
    assert!(!output.status.success() && output.stdout.is_empty());
    assert!(client.get(&page).send().await.unwrap().text().await.unwrap().contains("You are signed in"));
    assert!(login.succeeds().await);
}

/// Connections without a request used up the broker's file descriptors, and requests filled its log.
#[tokio::test]
async fn connections_of_another_user_to_the_redirect_port_harm_nothing() {
    let fixture = sign_in_device(FILE_VAULT).await;
    fixture.login().await;
    let mut login = Interactive::steward(&fixture.device, &["login", "--no-browser"]);
    let address = login.next_address().await;
    let script = format!(
        "import resource, socket, time\n\
         resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))\n\
         kept = []\n\
         for i in range(1500):\n\
         \x20try:\n\
         \x20\x20s = socket.create_connection(('127.0.0.1', {0}), 5)\n\
         \x20\x20if i % 2: s.sendall(b'GET /?state=' + str(i).encode() + b' HTTP/1.1\\r\\nhost: localhost:{0}\\r\\n\\r\\n')\n\
         \x20\x20kept.append(s)\n\
         \x20except OSError: pass\n\
         print('done', len(kept), flush=True)\n\
         time.sleep(60)\n",
        fixture.port
    );
    let process = start_as_other_user(&fixture.device, &script);
    until("1,500 connections", async || {
        let said = process.log();
        if said.contains("done") { Ok(()) } else { Err(said) }
    })
    .await;
    fixture.token().await.unwrap();
    let redirect = browser::sign_in(&address).await;
    let page = browser::client().get(&redirect).send().await.unwrap().text().await.unwrap();
    assert!(page.contains("You are signed in"), "{page}");
    assert!(login.succeeds().await);
    let lines = fixture.broker.log().lines().count();
    assert!(lines < 100, "{lines} lines of log");
    process.kill().await;
}

/// A process without file descriptors said that the port was taken. The user's own browser, or a program of the user, can bring
/// that about as well.
#[tokio::test]
async fn broker_without_file_descriptors_says_so_and_goes_on_when_there_are_some() {
    let fixture = sign_in_device(FILE_VAULT).await;
    fixture.login().await;
    let mut login = Interactive::steward(&fixture.device, &["login", "--no-browser"]);
    let address = login.next_address().await;
    let process = fixture.broker.id();
    let limit = async |number: &str| {
        let process = process.to_string();
        let output = fixture
            .device
            .run("/usr/bin/prlimit".as_ref(), &["--pid", &process, &format!("--nofile={number}:")])
            .await;
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    let open = fs_err::read_dir(format!("/proc/{process}/fd")).unwrap().count();
    limit(&open.saturating_sub(2).to_string()).await;
    let _waits = tokio::net::TcpStream::connect(("127.0.0.1", fixture.port)).await.unwrap();
    until("a line of log", async || {
        let log = fixture.broker.log();
        if log.contains("Too many open files") { Ok(()) } else { Err(log) }
    })
    .await;
    limit("1024").await;
    let redirect = browser::sign_in(&address).await;
    let page = browser::client().get(&redirect).send().await.unwrap().text().await.unwrap();
    assert!(page.contains("You are signed in"), "{page}");
    // It began to wait before or while there were none.
    let shown = login.remaining_output().await;
    assert!(shown.contains("Signed in as") || shown.contains("Too many open files"), "{shown}");
    fixture.token().await.unwrap();
    // A caller that cannot be identified for want of them was told that its own process had ended.
    until("a refusal that says why", async || {
        let open = |number: &usize| fs_err::symlink_metadata(format!("/proc/{process}/fd/{number}")).is_ok();
        let second_free = (0..1024).filter(|number| !open(number)).nth(1).unwrap();
        limit(&second_free.to_string()).await;
        let result = fixture.token().await;
        limit("1024").await;
        let result = format!("{result:?}");
        if result.contains("Too many open files") { Ok(()) } else { Err(result) }
    })
    .await;
    fixture.token().await.unwrap();
}

/// Answers that are never read, and requests that never end, took every connection of the service's API, root's too.
#[tokio::test]
async fn other_user_cannot_keep_the_service_from_answering() {
    let device = Device::new();
    let _agent = device.start_agent().await;
    let script = format!(
        "import os, resource, socket, sys, time\n\
         sys.stdout = sys.stderr\n\
         resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))\n\
         kept = []\n\
         for i in range(600):\n\
         \x20s = socket.socket(socket.AF_UNIX)\n\
         \x20s.settimeout(2)\n\
         \x20try:\n\
         \x20\x20os.seteuid(65400 + i % 20)\n\
         \x20\x20s.connect('{}')\n\
         \x20\x20if i % 2: s.sendall(b'GET /v1/status HTTP/1.1\\r\\nhost: localhost\\r\\n\\r\\n' * 20)\n\
         \x20\x20else: s.sendall(b'GET /v1/sta')\n\
         \x20\x20kept.append(s)\n\
         \x20except OSError: pass\n\
         \x20os.seteuid(0)\n\
         print('done', len(kept), flush=True)\n\
         time.sleep(60)\n",
        device.agent_socket().display()
    );
    // Root can be any user, as whoever has subordinate user IDs can be many.
    let process = device.start("/usr/bin/python3".as_ref(), &["-c", &script]);
    until("connections that do nothing", async || {
        let said = process.log();
        if said.contains("done") { Ok(()) } else { Err(said) }
    })
    .await;
    for _ in 0..5 {
        assert!(device.status().await.agent_running);
    }
    process.kill().await;
}

/// A program of another user that listens where a broker would was believed by the report of the device.
#[tokio::test]
async fn socket_that_is_not_of_its_folders_user_is_not_believed() {
    let device = Device::new();
    let run = device.path("run/user/65533/steward");
    fs_err::create_dir_all(&run).unwrap();
    let fake = device.path("tmp");
    fs_err::create_dir_all(&fake).unwrap();
    for folder in [&run, &fake] {
        std::os::unix::fs::chown(folder, Some(65533), Some(65533)).unwrap();
    }
    std::os::unix::fs::chown(device.path("run/user/65533"), Some(65533), Some(65533)).unwrap();
    let agent = device.start_agent().await;
    let listening = async |place: &std::path::Path, link: &str| {
        let script = format!(
            "import os, socket\n\
             s = socket.socket(socket.AF_UNIX)\n\
             s.bind('{0}')\n\
             s.listen(16)\n\
             {link}\n\
             print('listens at {0}', flush=True)\n\
             while True:\n\
             \x20c, _ = s.accept()\n\
             \x20print('asked', flush=True)\n\
             \x20c.close()\n",
            place.display(),
        );
        let process = start_as_other_user(&device, &script);
        until("a fake broker", async || {
            let said = process.log();
            // Both append to one log.
            if said.contains(&format!("listens at {}", place.display())) { Ok(()) } else { Err(said) }
        })
        .await;
        process
    };
    let socket = run.join("session.sock");
    let elsewhere = fake.join("fake.sock");
    let link = format!("os.symlink('{}', '{}')", elsewhere.display(), socket.display());
    let process = listening(&elsewhere, &link).await;
    drop(device.report().await);
    assert!(!process.log().contains("asked"), "the link was followed: {}", process.log());
    process.kill().await;
    // The same program is asked where its own broker belongs.
    fs_err::remove_file(&socket).unwrap();
    let process = listening(&socket, "").await;
    drop(device.report().await);
    assert!(process.log().contains("asked"), "no broker was looked for: {}", process.log());
    process.kill().await;
    agent.stop().await;
}
