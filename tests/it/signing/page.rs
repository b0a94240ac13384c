//! What `docs/aws.md` says, done.

use super::servers::s3s;
use crate::pages;
use crate::rig::proxy::Rig;
use crate::rig::root::Root;

#[tokio::test]
async fn the_page_on_aws_can_be_followed() {
    let root = Root::new();
    let dir = tempfile::tempdir().unwrap();
    let (id, secret) = ("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY");
    let host = "reports.s3.eu-west-1.amazonaws.com";
    let server = s3s(&root, host, id, secret, dir.path()).await;
    std::fs::create_dir(dir.path().join("s3/reports")).unwrap();
    let rig = Rig::new(&root);
    let (config, listen) = pages::served(&rig, "aws.md", host, server.address);
    let output = pages::run(&rig, "aws.md", &config, &[("127.0.0.1:8080", &listen)]).await;
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("a signature of `aws-id` as AWS has it"), "{said}");
    assert!(
        said.ends_with("upload: ./a.txt to s3://reports/daily/a.txt\nhello\n"),
        "{said}"
    );
}
