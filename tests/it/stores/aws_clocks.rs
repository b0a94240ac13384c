//! A machine whose clock is off, and an AWS that takes no signature of more than five minutes ago or ahead: a front for moto, which
//! checks what the front lets by.

use super::aws::{HOSTS, aws};
use super::aws_roles::{KEY, Machine, asked};
use super::{given, refusal};
use crate::rig::proxy::Rig;
use crate::signing::servers::{Server, free};

impl Machine {
    /// How many seconds off each signature was that came to its front.
    fn fronted(&self) -> Vec<u32> {
        let said = self.operator(&[], "fronted");
        said.split_whitespace().map(|off| off.parse().unwrap()).collect()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_is_off_costs_one_more_request_that_is_signed_by_that_of_aws() {
    let aws = aws().await;
    for (offset, asked) in [("+0", 1), ("+20m", 2), ("-20m", 2)] {
        let at = free().await;
        let server = Server::start(&aws.root, &[HOSTS[0]], Machine::command(&aws, at), at).await;
        let machine = Machine {
            at,
            running: server.running,
        };
        let rig = || {
            let rig = Rig::new(&aws.root)
                .reach(&aws.api)
                .reach_as(HOSTS[0], server.address)
                .rule(super::RULE)
                .config("aws: { region: eu-west-1 }")
                .env("AWS_ACCESS_KEY_ID", aws.key("user", "id"))
                .env("AWS_SECRET_ACCESS_KEY", aws.key("user", "secret"))
                .secret_spec("key", KEY);
            crate::clock::off(rig, offset)
        };
        let proxy = rig().serve().await;
        let value = given(&proxy, &aws.api).await;
        assert_eq!(
            value.as_deref(),
            Some("sk-first-0123456789"),
            "{offset}: {}",
            proxy.child.log()
        );
        let off = machine.fronted();
        assert!(off.len() == asked && *off.last().unwrap() < 60, "{offset}: {off:?}");
        // What is refused by its own clock too is refused.
        machine.tell("refuse", "yes");
        let said = refusal(&rig().serve().await, &aws.api).await;
        assert!(said.contains("it does not take this signature"), "{said}");
        assert_eq!(machine.fronted().len(), 2 * asked, "{offset}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agents_requests_are_signed_by_the_clock_of_the_host_once_that_has_refused_ours() {
    let aws = aws().await;
    for (offset, second) in [("+20m", 200), ("-20m", 200), ("+90m", 400)] {
        let at = free().await;
        let server = Server::start(&aws.root, &[HOSTS[2]], Machine::command(&aws, at), at).await;
        let rig = Rig::new(&aws.root)
            .reach_as(HOSTS[2], server.address)
            .secret("ID", aws.key("user", "id"))
            .secret("SECRET", aws.key("user", "secret"))
            .rule(&format!(
                "host: {}, inject: [{{ sigv4: {{ access_key_id: id, secret_access_key: secret }} }}]",
                HOSTS[2]
            ));
        let proxy = crate::clock::off(rig, offset).serve().await;
        let first = asked(&proxy).await;
        assert_eq!(first.status, 400, "{offset}: {}", first.text());
        let next = asked(&proxy).await;
        assert_eq!(next.status, second, "{offset}: {}", next.text());
        assert_eq!(next.text().contains(":user/ci"), second == 200, "{}", next.text());
    }
}
