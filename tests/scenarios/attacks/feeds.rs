//! A hostile feed.

use e2e::feed::Fault;
use policy_schema::Code;

use super::super::update::{AUTOMATIC, update_device};

/// A name of 64 MiB in a small archive took gigabytes of memory, and then stood in the status and in every report.
#[tokio::test]
async fn metadata_of_an_archive_is_bounded() {
    let fixture = update_device(AUTOMATIC).await;
    fixture.feed.publish("1.0.0");
    fixture.update().await;
    for (fault, expected) in
        [(Fault::LongName, "damaged or too long"), (Fault::LinkOutside, "leads outside its folder")]
    {
        fixture.feed.publish_faulty("2.0.0", fault);
        let printed = fixture.update().await;
        assert!(printed.contains(expected), "{fault:?}: {printed}");
        assert_eq!(fixture.installed().as_deref(), Some("1.0.0"), "{fault:?}");
        assert!(fixture.leftovers().is_empty(), "{fault:?}: {:?}", fixture.leftovers());
        let problem = fixture.device.problem(Code::UpdateInstallFailed).await;
        assert!(problem.to_string().len() < 2000, "{problem}");
        let status = fs_err::metadata(fixture.device.path("var/lib/steward/status.json")).unwrap();
        assert!(status.len() < 100_000, "{} bytes of status", status.len());
    }
}
