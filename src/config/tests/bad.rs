//! One bad value at a time: each is refused, where it stands, with a message that says so.

use super::{HEAD, parse};

/// Each bad config, the text the caret must stand under, and words the message must hold.
#[rustfmt::skip]
const BAD: &[(&str, &str, &str)] = &[
    // listen and admin
    ("listen: [\"localhost:8080\"]", "\"localhost:8080\"", "no address to listen on"),
    ("listen: [\":8080\"]", "\":8080\"", "no address to listen on"),
    ("listen: [\"vsock:0\"]", "\"vsock:0\"", "expected a port"),
    ("listen: [\"vsock:4294967295\"]", "\"vsock:4294967295\"", "expected a port"),
    ("listen: [\"vsock:3:8080\"]", "\"vsock:3:8080\"", "expected a port"),
    ("listen: [{ bind: \"vsock:8080\", mode: \"0600\" }]", "\"0600\"", "for unix sockets"),
    ("admin: \"vsock:9\"", "\"vsock:9\"", "anyone who reaches"),
    ("listen: [\"systemd:\"]", "\"systemd:\"", "expected the name of a socket"),
    ("listen: [\"systemd:a:b\"]", "\"systemd:a:b\"", "expected the name of a socket"),
    ("listen: [{ bind: \"systemd:a\", mode: \"0600\" }]", "\"0600\"", "who passes a socket"),
    ("listen: [{ bind: \"systemd:a\", speak: transparent }]", "\"systemd:a\"", "not to a socket of another kind"),
    ("admin: \"systemd:a\"", "\"systemd:a\"", "anyone who reaches"),
    ("listen: [\"unix:relative.sock\"]", "\"unix:relative.sock\"", "absolute path"),
    ("listen: [{ bind: 127.0.0.1:1, speak: gopher }]", "gopher", "cannot speak"),
    ("listen: [{ bind: 127.0.0.1:1, default: \"a.test:443\" }]", "\"a.test:443\"", "speak `transparent`"),
    ("listen: [{ bind: 127.0.0.1:1, speak: socks, tproxy: true }]", "true", "speak `transparent`"),
    ("listen: [{ bind: 127.0.0.1:1, names: [a.test] }]", "a.test", "speak `gateway`"),
    ("listen: [{ bind: 127.0.0.1:1, speak: gateway, names: [\"a b\"] }]", "\"a b\"", "is no host"),
    ("listen: [{ bind: 127.0.0.1:1, speak: transparent, default: a.test }]", "a.test", "no host and port"),
    ("listen: [{ bind: 127.0.0.1:1, speak: transparent, tls: true }]", "true", "not wrapped in TLS"),
    ("listen: [{ bind: \"unix:/a\", speak: transparent }]", "\"unix:/a\"", "not to a socket of another kind"),
    ("listen: [{ bind: \"vsock:1\", speak: transparent }]", "\"vsock:1\"", "not to a socket of another kind"),
    ("listen: [{ bind: 127.0.0.1:1, speak: transparent, proxy_protocol: [10.0.0.0/8] }]", "10.0.0.0/8", "no balancer"),
    ("listen: [{ bind: 127.0.0.1:1, answer: 10.0.0.1 }]", "10.0.0.1", "speak `dns`"),
    ("listen: [{ bind: 127.0.0.1:1, speak: dns, answer: [a.test] }]", "a.test", "is no address"),
    ("listen: [{ bind: 127.0.0.1:1, speak: dns, tls: true }]", "true", "in the clear"),
    ("listen: [{ bind: \"unix:/a\", speak: dns }]", "\"unix:/a\"", "an address and a port"),
    ("listen: [{ bind: \"systemd:dns\", speak: dns }]", "\"systemd:dns\"", "an address and a port"),
    ("listen: [{ bind: 127.0.0.1:1, speak: dns, proxy_protocol: [10.0.0.0/8] }]", "10.0.0.0/8", "no PROXY header"),
    ("listen: [{ bind: \"unix:/a\", proxy_protocol: [10.0.0.0/8] }]", "10.0.0.0/8", "on a TCP address"),
    ("listen: [{ bind: 127.0.0.1:1, proxy_protocol: [near] }]", "near", "no network"),
    // logins
    ("rules: [{ host: a.test, inject: [{ login: mail }] }]", "mail", "no login is named `mail`"),
    ("rules: [{ host: a.test, capture: { login: \"a b\" } }]", "\"a b\"", "cannot name a login"),
    ("rules: [{ host: a.test, capture: { login: a, tokens: [\"a/b\"] } }]", "\"a/b\"", "no field of a token"),
    ("rules: [{ host: a.test, capture: { login: a, tokens: [] } }]", "[", "keeps nothing"),
    ("rules: [{ host: a.test, tunnel: true, capture: { login: a } }]", "{", "not inspected"),
    ("rules: [{ host: a.test, deny: true, capture: { login: a } }]", "{", "no use for `capture`"),
    ("rules: [{ host: \"*\", capture: { login: a } }]", "\"*\"", "any host"),
    ("rules: [{ host: a.test, capture: { login: a } }, { host: b.test, inject: [{ login: a, in: path }] }]", "path", "headers and bodies"),
    ("rules: [{ host: a.test, capture: { login: a } }, { host: b.test, inject: [{ login: a }, { login: a }] }]", "{", "two injections"),
    ("rules: [{ preset: github-login, capture: { login: a } }]", "{", "the preset's to say"),
    ("rules: [{ preset: github-login, secret: a }]", "a", "logs in by itself"),
    ("rules: [{ host: a.test, gateway: a }]", "a", "no path for a base URL"),
    ("rules: [{ host: a.test, gateway: /a/../b }]", "/a/../b", "no path for a base URL"),
    ("rules: [{ host: a.test, gateway: /a/ }]", "/a/", "no path for a base URL"),
    ("rules: [{ host: \"*.a.test\", gateway: /a }]", "/a", "leads to one host"),
    ("rules: [{ host: [a.test, b.test], gateway: /a }]", "/a", "leads to one host"),
    ("rules: [{ host: a.test, tunnel: true, gateway: /a }]", "/a", "only what is inspected"),
    ("rules: [{ host: a.test, base_url: A }]", "A", "goes with `gateway`"),
    ("rules: [{ host: a.test, gateway: /a, base_url: A=v1 }]", "A=v1", "no variable for a base URL"),
    ("rules: [{ host: a.test, gateway: /a }, { name: b, host: b.test, gateway: /a }]", "b", "leads to a.test:443 already"),
    ("listen: [{ bind: 127.0.0.1:1, mode: 0660 }]", "0660", "for unix sockets"),
    ("listen: [{ bind: \"unix:/a\", mode: rw }]", "rw", "in octal"),
    ("listen: [{ bind: \"unix:/a\", mode: \"1777\" }]", "\"1777\"", "in octal"),
    ("listen: [{ bind: \"unix:/a\", mode: \"0888\" }]", "\"0888\"", "in octal"),
    ("listen: [{ bind: 127.0.0.1:1, tls: yes }]", "yes", "expected true or false"),
    ("listen: [127.0.0.1:1, { bind: 127.0.0.1:1 }]", "127.0.0.1:1", "two listeners"),
    ("listen: [{ speak: proxy }]", "{", "lacks `bind`"),
    ("admin: 0.0.0.0:9090", "0.0.0.0:9090", "anyone who reaches"),
    ("admin: { bind: 127.0.0.1:9, token: nobody }", "nobody", "no secret is named"),
    // upstream
    ("upstream: { roots: [] }", "{", "no roots"),
    ("upstream: { roots: [\"~other/x.pem\"] }", "\"~other/x.pem\"", "home"),
    ("upstream: { resolve: { a.test: b.test } }", "b.test", "no address"),
    ("upstream: { resolve: { a.test: \"127.0.0.1:0\" } }", "\"127.0.0.1:0\"", "no address"),
    ("upstream: { resolve: { \"a b\": 127.0.0.1 } }", "\"a b\"", "no host"),
    ("upstream: { resolve: { a.test: 127.0.0.1, A.test: 127.0.0.2 } }", "127.0.0.2", "two answers"),
    ("upstream: { allow_networks: [127.0.0.1/8] }", "127.0.0.1/8", "beyond its prefix"),
    ("upstream: { allow_networks: [inside] }", "inside", "no network"),
    ("upstream: { parent: \"ftp://proxy:3128\" }", "\"ftp://proxy:3128\"", "no parent proxy"),
    ("upstream: { parent: \"http://proxy\" }", "\"http://proxy\"", "no parent proxy"),
    ("upstream: { parent: \"proxy:3128\" }", "\"proxy:3128\"", "no parent proxy"),
    ("upstream: { parent: \"http://proxy:3128/pac\" }", "\"http://proxy:3128/pac\"", "no parent proxy"),
    ("upstream: { parent: \"http://ann:pw@proxy:3128\" }", "\"http://ann:pw@proxy:3128\"", "do not belong in the config"),
    ("upstream: { parent: \"http://proxy:3128\", parent_auth: nobody }", "nobody", "no secret is named"),
    ("secrets: { a: { env: A } }\nupstream: { parent_auth: a }", "a", "goes with a `parent`"),
    ("upstream: { parent_except: [a.test] }", "{", "goes with `parent`"),
    ("upstream: { parent: \"http://proxy:3128\", parent_except: [10.0.0.1/8] }", "10.0.0.1/8", "beyond its prefix"),
    ("upstream: { parent: \"http://proxy:3128\", parent_except: [\"a b\"] }", "\"a b\"", "neither a host pattern"),
    ("secrets: { a: { env: A } }\nrules: [{ host: a.test, parent: none, parent_auth: a }]", "a", "goes with a `parent`"),
    ("rules: [{ host: a.test, deny: true, parent: none }]", "none", "no use for `parent`"),
    ("upstream: { verify: false }", "verify", "has no key"),
    // secrets
    ("secrets: { a: plainly-written }", "plainly-written", "never written in the config"),
    ("secrets: { a: {} }", "a", "nothing says where"),
    ("secrets: { a: { env: A, file: b } }", "a", "more than one place"),
    ("secrets: { a: { env: sk-ant-0123456789abcdef } }", "sk-ant-0123456789abcdef", "name of an environment variable"),
    ("secrets: { a: { env: \"A B\" } }", "\"A B\"", "name of an environment variable"),
    ("secrets: { a: { env: A, ttl: 10m } }", "10m", "goes with `exec`"),
    ("secrets: { a: { exec: \"op read\" } }", "\"op read\"", "expected a list"),
    ("secrets: { a: { exec: [] } }", "[", "program and its arguments"),
    ("secrets: { a: { exec: [op], ttl: 10 } }", "10", "span of time"),
    ("secrets: { a: { exec: [op], timeout: 0s } }", "0s", "span of time"),
    ("secrets: { a: { keychain: { path: x } } }", "keychain", "has no key `keychain`"),
    ("secrets: { a: { vault: { path: x } } }", "{", "nothing says where the Vault is"),
    ("secrets: { a: { aws_secret: { id: x } } }", "x", "nothing says in which region"),
    ("secrets: { a: { aws_secret: { id: x } } }\naws: { region: eu-west-1, from: somewhere }", "somewhere", "`container`, `web_identity` or `instance`"),
    ("secrets: { a: { aws_secret: { id: x } }, k: { env: K } }\naws: { region: eu-west-1, from: instance, access_key_id: k, secret_access_key: k }", "{", "wants `from`, or keys"),
    ("secrets: { a: { aws_secret: { id: x } } }\naws: { region: eu-west-1, from: instance, external_id: x1 }", "x1", "goes with `assume_role`"),
    ("secrets: { a: { aws_secret: { id: x } } }\naws: { region: eu-west-1, from: instance, assume_role: admin }", "admin", "expected the ARN of a role"),
    ("rules: [{ host: s3.amazonaws.com, inject: [{ sigv4: { from: aws } }] }]", "aws", "`container`, `web_identity` or `instance`"),
    ("rules: [{ host: s3.amazonaws.com, inject: [{ sigv4: { region: eu-west-1 } }] }]", "{", "or `from`"),
    ("secrets: { a: { aws_secret: { id: \"a b\", region: eu-west-1 } } }", "\"a b", "expected a name or an ARN"),
    ("secrets: { a: { kubernetes_secret: { name: a/b, key: k } } }", "a/b", "expected the name of a Secret"),
    ("secrets: { a: { kubernetes_secret: { name: x, key: .. } } }", "..", "expected a key of"),
    ("secrets: { t: { env: T }, a: { gcp_secret: { name: stripe, token: t } } }", "stripe", "expected the name of a secret of Google"),
    ("secrets: { t: { env: T }, a: { azure_secret: { vault: \"http://a.test\", name: x, token: t } } }", "\"http://a.test", "not https"),
    ("secrets: { t: { env: T }, a: { azure_secret: { vault: \"https://a.test\", name: a/b, token: t } } }", "a/b", "expected the name of a secret"),
    ("secrets: { a: { onepassword_item: { vault: v, item: i } } }", "{", "nothing says how 1Password is asked"),
    ("secrets: { a: { onepassword_item: { vault: v, item: a/b } } }\nonepassword: { service_account: a }", "a/b", "expected a title"),
    ("secrets: { a: { onepassword_item: { vault: v, item: i } } }\nonepassword: { program: op }", "{", "`onepassword` wants"),
    ("secrets: { a: { keyring: { service: x } } }", "{", "`keyring` wants"),
    ("secrets: { a: { secret_service: { attributes: { } } } }", "{", "`secret_service` wants the attributes"),
    ("secrets: { a: { secret_service: { attributes: { service: \"--unlock\" } } } }", "{", "`secret_service` wants the attributes"),
    ("vault: { address: \"https://v.test\", token: t, role: r }\nsecrets: { t: { env: T } }", "{", "`vault` wants one of"),
    ("vault: { address: \"https://v.test\", token: t }\nsecrets: { t: { env: T }, a: { vault: { path: x, dynamic: true, ttl: 5m } } }", "5m", "`dynamic` makes one"),
    ("secrets: { t: { env: T }, a: { field: k, keyring: { description: x } } }", "k", "`field` goes with"),
    ("secrets: { a: { credential: a/b } }", "a/b", "cannot name a credential"),
    ("secrets: { a: { aws_parameter: { name: x, region: \"a/b\" } } }", "\"a/b", "expected a region"),
    ("secrets: { \"a b\": { env: A } }", "\"a b\"", "cannot name a secret"),
    ("secrets: { a: { env: A, placeholder: short } }", "short", "from 8 to 4096"),
    ("secrets: { a: { env: A, placeholder: \"with a space\" } }", "\"with a space\"", "visible ASCII"),
    ("secrets: { a: { env: A, placeholder: same_same }, b: { env: B, placeholder: same_same } }", "same_same", "holds that of"),
    ("secrets: { a: { env: A, placeholder: inner_text }, b: { env: B, placeholder: an_inner_text_more } }", "an_inner_text_more", "holds that of"),
    ("secrets: { a: { env: A, agent_env: X }, b: { env: B, agent_env: [X] } }", "b", "both go into `X`"),
    ("secrets: { a: { env: A }, a: { env: B } }", "a", "given twice"),
    // agents
    ("agents: { ci: {} }", "ci", "nothing proves"),
    ("agents: { ci: { token: nobody } }", "nobody", "no secret is named"),
    ("agents: { ci: { token_sha256: abc } }", "abc", "64 hexadecimal"),
    ("agents: { ci: { peer_uid: -1 } }", "-1", "whole number"),
    ("agents: { ci: { peer_uid: 7 }, cd: { peer_uid: 7 } }", "cd", "the same proof"),
    ("agents: { ci: { address: here } }", "here", "no network"),
    ("agents: { vm: { vsock_cid: 0 } }", "0", "the hypervisor itself"),
    ("agents: { vm: { vsock_cid: 1 } }", "1", "loopback"),
    ("agents: { vm: { vsock_cid: 2 } }", "2", "the host"),
    ("agents: { vm: { vsock_cid: 4294967295 } }", "4294967295", "stands for any"),
    ("agents: { vm: { vsock_cid: 3 }, vn: { vsock_cid: 3 } }", "vn", "the same proof"),
    ("agents: { a: { client_certificate: {} } }", "{", "named by `ca`"),
    ("agents: { a: { client_certificate: { ca: c.pem } } }", "{", "named by `ca`"),
    ("agents: { a: { client_certificate: { dns: a.test } } }", "{", "lacks the `ca`"),
    ("agents: { a: { client_certificate: { uri: \"x://a\" } } }", "{", "lacks the `ca`"),
    ("agents: { a: { client_certificate: { ca: c.pem, dns: a.test, uri: \"x://a\" } } }", "{", "named by `ca`"),
    ("agents: { a: { client_certificate: { ca: c.pem, sha256: 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08 } } }", "{", "by one hash alone"),
    ("agents: { a: { client_certificate: { ca: c.pem, dns: \"*.a.test\" } } }", "\"*.a.test\"", "no DNS name"),
    ("agents: { a: { client_certificate: { ca: c.pem, dns: 10.0.0.1 } } }", "10.0.0.1", "no DNS name"),
    ("agents: { a: { client_certificate: { ca: c.pem, uri: bot } } }", "bot", "no URI"),
    ("agents: { a: { client_certificate: { sha256: abc } } }", "abc", "64 hexadecimal"),
    ("agents: { a: { client_certificate: { public_key_sha256: \"\" } } }", "\"\"", "64 hexadecimal"),
    ("agents: { a: { client_certificate: [{ ca: c.pem, dns: a.test }] }, b: { client_certificate: { ca: c.pem, dns: A.test } } }", "b", "the same proof"),
    // rules: which requests
    ("rules: [{ name: a }]", "a", "lacks `host`"),
    ("rules: [{ host: \"https://a.test/v1\" }]", "\"https://a.test/v1\"", "no host pattern"),
    ("rules: [{ host: \"a..test\" }]", "\"a..test\"", "no host pattern"),
    ("rules: [{ host: \"a.test:0\" }]", "\"a.test:0\"", "no host pattern"),
    ("rules: [{ host: [] }]", "[", "empty list"),
    ("rules: [{ host: a.test, agents: [nobody] }]", "nobody", "no agent is named"),
    ("rules: [{ host: a.test, agents: [] }]", "[", "empty list"),
    ("rules: [{ host: a.test, allow: [\"get /\"] }]", "\"get /\"", "no method and path"),
    ("rules: [{ host: a.test, allow: [\"GET v1\"] }]", "\"GET v1\"", "no method and path"),
    ("rules: [{ host: a.test, allow: [\"GET /[\"] }]", "\"GET /[\"", "no method and path"),
    ("rules: [{ name: x, host: a.test }, { name: x, host: b.test }]", "x", "two rules are named"),
    ("rules: [{ name: \"\", host: a.test }]", "\"\"", "rule's name"),
    ("rules: { host: a.test }", "{", "expected a list"),
    ("rules: [a.test]", "a.test", "expected a map"),
    ("rules: [{ preset: opanai }]", "opanai", "no preset is named"),
    ("rules: [{ preset: openai, host: a.test }]", "a.test", "the preset's to say"),
    ("rules: [{ preset: openai, secret: nobody }]", "nobody", "no secret is named"),
    ("rules: [{ host: a.test, secret: nobody }]", "nobody", "goes with `preset`"),
    ("rules: [{ host: a.test, with: { client_id: a } }]", "{", "goes with `preset`"),
    ("rules: [{ preset: spotify }]", "spotify", "must be told `client_id`, the application's client id"),
    ("rules: [{ preset: spotify, with: { clint_id: a } }]", "clint_id", "no entry of `with` is named"),
    ("rules: [{ preset: openai, with: { client_id: a } }]", "client_id", "no entry of `with` is named"),
    ("rules: [{ preset: spotify, with: { client_id: sk-0123456789abcdef } }]", "sk-", "looks like a credential"),
    ("rules: [{ preset: paypal, with: { client_id: a, host: sk-0123456789abcdef } }]", "sk-", "looks like a credential"),
    ("rules: [{ preset: github-app, with: { app_id: a, installation: here } }]", "here", "the number of an installation"),
    // rules: what happens
    ("rules: [{ host: a.test, tunnel: true, inject: [{ header: x, value: y }] }]", "[", "nothing can be injected"),
    ("rules: [{ host: a.test, tunnel: true, allow: /x }]", "/x", "no method or path"),
    ("rules: [{ host: a.test, tunnel: true, limits: { request_body: 1MiB } }]", "1MiB", "no body"),
    ("rules: [{ host: a.test, deny: true, tunnel: true }]", "true", "no use for `tunnel`"),
    ("rules: [{ host: a.test, stray_placeholders: maybe }]", "maybe", "cannot be"),
    ("rules: [{ host: a.test, tunnel: true, stray_placeholders: pass }]", "pass", "no placeholder is seen"),
    ("rules: [{ host: a.test, deny: true, stray_placeholders: pass }]", "pass", "no use for"),
    ("rules: [{ host: a.test, deny: \"\" }]", "\"\"", "the reason"),
    ("rules: [{ host: a.test, limits: { rate: 0/min } }]", "0/min", "no rate"),
    ("rules: [{ host: a.test, limits: { rate: 5 } }]", "5", "no rate"),
    ("rules: [{ host: a.test, limits: { concurrent: 0 } }]", "0", "above zero"),
    ("rules: [{ host: a.test, limits: { request_body: 5parsecs } }]", "5parsecs", "number of bytes"),
    ("rules: [{ host: \"*\", inject: [{ header: x, value: y }] }]", "\"*\"", "any host the agent names"),
    // injections
    ("rules: [{ host: a.test, inject: [{}] }]", "{", "nothing says what to inject"),
    ("rules: [{ host: a.test, inject: [{ bearer: nobody }] }]", "nobody", "no secret is named"),
    ("rules: [{ host: a.test, inject: [{ bearer: ghp_0123456789abcdef }] }]", "ghp_0123456789abcdef", "not a value"),
    ("rules: [{ host: a.test, inject: [{ header: x }] }]", "x", "nothing says what goes into"),
    ("rules: [{ host: a.test, inject: [{ header: x, value: \"${nobody}\" }] }]", "nobody", "no secret is named"),
    ("rules: [{ host: a.test, inject: [{ header: x, value: \"a ${open\" }] }]", "${", "without a closing"),
    ("rules: [{ host: a.test, inject: [{ header: x, value: sk-ant-0123456789abc }] }]", "sk-ant-0123456789abc", "looks like a credential"),
    ("rules: [{ host: a.test, inject: [{ header: x, value: \"a\\nb\" }] }]", "\"a\\nb\"", "one line"),
    ("rules: [{ host: a.test, inject: [{ header: \"x y\", value: z }] }]", "\"x y\"", "no header name"),
    ("rules: [{ host: a.test, inject: [{ query: \"\", value: z }] }]", "\"\"", "query parameter"),
    ("secrets: { x: { env: X } }\nrules: [{ host: a.test, inject: [{ basic: { user: \"a:b\", password: x } }] }]", "\"a:b\"", "no colon"),
    ("rules: [{ host: a.test, inject: [{ ntlm: { user: x } }] }]", "ntlm", "has no key"),
    ("secrets: { x: { env: X } }\nrules: [{ host: a.test, inject: [{ mtls: { certificate: x, private_key: nobody } }] }]", "nobody", "no secret is named"),
    ("secrets: { x: { env: X } }\nrules: [{ host: a.test, inject: [{ mtls: { certificate: x } }, { bearer: x }] }]", "x", "and a rule sends it"),
    ("secrets: { x: { env: X }, y: { env: Y } }\nrules: [{ host: a.test, inject: [{ mtls: { certificate: x } }, { mtls: { certificate: y } }] }]", "{", "two injections into the TLS handshake"),
    ("secrets: { x: { env: X } }\nrules: [{ host: a.test, inject: [{ cookie: \"a b\", value: \"${x}\" }] }]", "\"a b\"", "no name of a cookie"),
    ("secrets: { x: { env: X } }\nrules: [{ host: a.test, inject: [{ cookie: a, value: \"${x}\" }, { header: cookie, value: \"${x}\" }] }]", "[", "is all cookies"),
    ("secrets: { x: { env: X } }\nrules: [{ host: a.test, inject: [{ hmac: { key: x, signed: \"${body}.\", headers: { s: \"${signature}\" } } }] }]", "\"${body}.\"", "comes last"),
    ("secrets: { x: { env: X } }\nrules: [{ host: a.test, inject: [{ hmac: { key: x, signed: \"${body}\", headers: { s: \"${nonce}\" } } }] }]", "{", "no header says the signature"),
    ("secrets: { x: { env: X } }\nrules: [{ host: a.test, inject: [{ hmac: { key: x, signed: \"a\", headers: { s: \"${signature}\" } } }] }]", "\"a\"", "nothing of the request"),
    ("secrets: { x: { env: X } }\nrules: [{ host: a.test, inject: [{ hmac: { key: x, signed: \"${verb}\", headers: { s: \"${signature}\" } } }] }]", "${verb}", "is nothing that can be signed"),
    ("secrets: { x: { env: X } }\nrules: [{ host: a.test, inject: [{ hmac: { key: x, signed: \"${signature}\", headers: { s: \"${signature}\" } } }] }]", "\"${signature}\"", "cannot be part"),
    ("secrets: { x: { env: X } }\nrules: [{ host: a.test, inject: [{ hmac: { key: x, signed: \"${path}${secret:y}\", headers: { s: \"${signature}\" } } }] }]", "y", "no secret is named"),
    ("secrets: { x: { env: X } }\nrules: [{ host: a.test, inject: [{ hmac: { key: x, signed: \"${header:s}\", headers: { s: \"${signature}\" } } }] }]", "\"${header:s}\"", "is filled here"),
    ("secrets: { x: { env: X } }\nrules: [{ host: a.test, inject: [{ hmac: { key: x, signed: \"${path}\", headers: { s: \"${signature}${path}\" } } }] }]", "\"${signature}${path}\"", "a header is one line"),
    ("secrets: { x: { env: X } }\nrules: [{ host: a.test, inject: [{ hmac: { key: x, algorithm: md5, signed: \"${path}\", headers: { s: \"${signature}\" } } }] }]", "md5", "is none of"),
    ("rules: [{ host: a.test, inject: [{ exec: { command: [] } }] }]", "[", "wants a program"),
    ("rules: [{ host: a.test, inject: [{ exec: { command: [a], concurrent: 65 } }] }]", "65", "from 1 to 64"),
    ("rules: [{ host: a.test, inject: [{ exec: { command: [a] } }, { exec: { command: [b] } }] }]", "{", "two injections into"),
    ("secrets: { x: { env: X } }\nrules: [{ host: s3.amazonaws.com, inject: [{ sigv4: { access_key_id: nobody, secret_access_key: x } }] }]", "nobody", "no secret is named"),
    ("rules: [{ host: a.test, inject: [{ header: x, value: y, query: z }] }]", "{", "one credential in one place"),
    ("rules: [{ host: a.test, inject: [{ header: x, value: y }, { header: X, value: z }] }]", "{", "two injections"),
    // audit and limits
    ("audit: loud", "loud", "`stdout`, `none` or a map"),
    ("audit: { file: a, when_full: panic }", "panic", "cannot be"),
    ("audit: { file: a, rotate: 1KiB }", "1KiB", "64KiB or more"),
    ("limits: { connections: 0 }", "0", "above zero"),
    ("limits: { head_bytes: 10 }", "10", "from 1KiB"),
    ("limits: { idle_time: 300 }", "300", "span of time"),
    ("limits: { speed: fast }", "speed", "has no key"),
    // the file itself
    ("limits: { connections: 1, connections: 2 }", "connections", "given twice"),
    ("limits: [", "", ""),
    ("limits: *nowhere", "", ""),
    ("limits: !env { connections: 1 }", "", ""),
    ("--- 1\n--- 2", "", ""),
    ("[1, 2]: x", "[", "expected a text as the key"),
    ("just text", "just text", "expected a map"),
    ("", "", "expected a map"),
    ("ca: { dir: a, memory: true }", "{", "wants one of"),
    ("ca: { certificate: a.pem }", "{", "wants one of"),
    ("ca: { memory: false }", "{", "wants one of"),
];

#[test]
fn each_bad_value_is_refused_where_it_stands() {
    for (text, under, words) in BAD {
        let mistakes = match parse(text) {
            Err(mistakes) => mistakes,
            Ok(_) => panic!("{text:?} was accepted"),
        };
        let fits = |m: &&super::super::Mistake| {
            m.message.contains(words)
                && text
                    .get(m.place.start..m.place.end)
                    .is_some_and(|at| at.starts_with(under))
        };
        let found = mistakes.list.iter().find(fits);
        let found = found.unwrap_or_else(|| panic!("{text:?}: wanted {words:?} under {under:?}\n{mistakes}"));
        assert_eq!(
            found.place.line,
            text[..found.place.start].matches('\n').count() + 1,
            "{text:?}"
        );
    }
}

#[test]
fn one_mistake_is_told_once() {
    for (text, _, _) in BAD.iter().filter(|(text, _, _)| !text.is_empty()) {
        // Beside the mistake the text is sound, but for what the test leaves out to stay short.
        let mistakes = parse(text).expect_err("it has a mistake");
        assert_eq!(mistakes.len(), 1, "{text}\n{mistakes}");
    }
}

#[test]
fn headers_that_frame_or_steer_a_message_cannot_be_injected() {
    for name in [
        "Host",
        "content-length",
        "Transfer-Encoding",
        "connection",
        "te",
        "upgrade",
        "trailer",
        "proxy-authorization",
        "proxy-connection",
        "keep-alive",
        "expect",
        "sec-websocket-key",
        "x-keyferry-error",
        ":authority",
    ] {
        for inject in [
            format!("{{ header: \"{name}\", value: v }}"),
            format!("{{ placeholder: s, in: \"header:{name}\" }}"),
        ] {
            let text = format!("{HEAD}secrets: {{ s: {{ env: S }} }}\nrules: [{{ host: a.test, inject: [{inject}] }}]");
            assert!(parse(&text).is_err(), "{text}");
        }
    }
}

#[test]
fn a_place_is_no_place_unless_it_is_one() {
    for place in [
        "header",
        "header:",
        "cookie:a",
        "body:",
        "body:a",
        "body:/a~2",
        "query:",
        "paths",
        "",
    ] {
        let text = format!(
            "{HEAD}secrets: {{ s: {{ env: S }} }}\nrules: [{{ host: a.test, inject: [{{ placeholder: s, in: \"{place}\" }}] }}]"
        );
        let mistakes = parse(&text).expect_err(place);
        assert_eq!(
            (mistakes.len(), mistakes.list[0].place.line),
            (1, 4),
            "{place}: {mistakes}"
        );
    }
}
