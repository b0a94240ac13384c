//! The services that give a machine, a container or a pod of AWS's the credentials of its role. Each is at an address of its
//! own, in the clear, that no agent may reach.

use super::ask::Scheme;
use super::endpoint::Endpoint;
use super::host::{Host, Target};
use http::uri::PathAndQuery;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Where such a service is: at one of the addresses that AWS has for them, or on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metadata {
    endpoint: Endpoint,
    address: IpAddr,
}

/// EC2's, of either family; that of ECS; that of EKS, of either family.
const KNOWN: [IpAddr; 5] = [
    IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V4(Ipv4Addr::new(169, 254, 170, 2)),
    IpAddr::V4(Ipv4Addr::new(169, 254, 170, 23)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23)),
];

/// The names under which they give the three parts of a credential: the key's id, the key, and the token.
pub const PARTS: [&str; 3] = ["AccessKeyId", "SecretAccessKey", "Token"];

impl Metadata {
    /// Reads `http://ADDRESS[:PORT]/PATH`; `None` where no such service can be.
    pub fn parse(text: &str) -> Option<Self> {
        let url = url::Url::parse(text).ok()?;
        let plain = url.scheme() == "http" && url.username().is_empty() && url.password().is_none();
        let address = match Host::parse(url.host_str()?).ok()? {
            Host::Ip(ip) => ip.to_canonical(),
            Host::Name(name) if &*name == "localhost" => Ipv4Addr::LOCALHOST.into(),
            Host::Name(_) => return None,
        };
        if !plain || !KNOWN.contains(&address) && !address.is_loopback() {
            return None;
        }
        let query = url.query().map(|query| format!("?{query}")).unwrap_or_default();
        let path = format!("{}{query}", url.path());
        let endpoint = Endpoint {
            scheme: Scheme::Http,
            target: Target::new(address.into(), url.port().unwrap_or(80)),
            path: PathAndQuery::try_from(path).ok()?,
        };
        Some(Self { endpoint, address })
    }

    /// The same service at another path.
    pub fn at(&self, path: &str) -> Option<Self> {
        let path = PathAndQuery::try_from(path).ok()?;
        let endpoint = Endpoint {
            path,
            ..self.endpoint.clone()
        };
        Some(Self {
            endpoint,
            address: self.address,
        })
    }

    /// What is asked.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// The only address that may be dialled for it.
    pub fn address(&self) -> IpAddr {
        self.address
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_addresses_of_such_services_and_this_machine_are_one() {
        for (text, fit) in [
            ("http://169.254.169.254", true),
            ("http://169.254.170.2/v2/credentials/x?y=1", true),
            ("http://169.254.170.23/v1/credentials", true),
            ("http://[fd00:ec2::254]", true),
            ("http://[fd00:ec2::23]:80/v1/credentials", true),
            ("http://127.0.0.1:8080/x", true),
            ("http://localhost/x", true),
            ("http://[::1]/x", true),
            ("http://169.254.169.253", false),
            ("http://10.0.0.1/x", false),
            ("http://93.184.216.34/x", false),
            ("http://metadata.test/x", false),
            ("http://u:p@169.254.169.254", false),
            ("https://169.254.169.254", false),
            ("169.254.169.254", false),
        ] {
            assert_eq!(Metadata::parse(text).is_some(), fit, "{text}");
        }
    }
}
