//! The configuration as written. It can say nonsense; [`super::model`] cannot. The doc comments are
//! the descriptions in the JSON schema and in the reference.

use super::leaf::{At, Bytes, Lasting, Many, Named, Text};
use super::raw_kept::{
    RawAws, RawAwsParameter, RawAwsSecret, RawAzureSecret, RawGcpSecret, RawKeyring, RawKubernetes,
    RawKubernetesSecret, RawOnePassword, RawOnePasswordItem, RawSecretService,
};
use super::read::{Findings, Read, section};
use super::tree::{Node, Value};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use std::borrow::Cow;

section! {
    /// What Keyferry lets an agent reach, and which credential it adds on the way.
    RawConfig, "the configuration", {
        /// Where agents connect. Absent: `127.0.0.1:8080`.
        "listen" listen: Option<Many<RawListen>>,
        /// The operator's own listener: metrics, health, status. Absent: none.
        "admin" admin: Option<RawAdmin>,
        /// Where the CA that signs intercepted hosts' certificates comes from.
        "ca" ca: Option<RawCa>,
        /// The way out: whom to trust, where to dial.
        "upstream" upstream: Option<RawUpstream>,
        /// Where each credential lives, by a name of your choosing. Never the credential itself.
        "secrets" secrets: Option<Named<RawSecret>>,
        /// Who may ask, by name. Absent: one agent, `default`, that needs to show nothing.
        "agents" agents: Option<Named<RawAgent>>,
        /// The Vault, or OpenBao, that secrets with `vault` live in.
        "vault" vault: Option<RawVault>,
        /// Whose keys, and where, for secrets that live in AWS.
        "aws" aws: Option<RawAws>,
        /// The API of Kubernetes, for secrets that live there.
        "kubernetes" kubernetes: Option<RawKubernetes>,
        /// How 1Password is asked, for secrets that live there.
        "onepassword" onepassword: Option<RawOnePassword>,
        /// What is allowed. The first rule that matches decides; what no rule matches is denied.
        "rules" rules: Option<Vec<RawRule>>,
        /// Where audit records go. Absent: `audit.jsonl` in Keyferry's own directory.
        "audit" audit: Option<RawAudit>,
        /// Caps and deadlines of the whole program.
        "limits" limits: Option<RawLimits>,
    }
}

section! {
    /// One socket agents connect to.
    ListenMap, "a listener", {
        /// `127.0.0.1:8080`, `[::1]:8080`, `unix:/run/keyferry/proxy.sock` or `vsock:8080`. Port 0 lets the kernel choose.
        /// `systemd:NAME` is the socket that a service manager passes under that name.
        "bind" bind: Text,
        /// What is spoken there: `proxy` (HTTP proxying, CONNECT and absolute-form, and SOCKS5 too), `socks` (SOCKS5 alone),
        /// `transparent` (whatever the firewall redirects there), `gateway` (requests below a base URL) or `dns` (a resolver
        /// that knows what the rules allow). Absent: `proxy`.
        "speak" speak: Option<Text>,
        /// Whether the socket itself is TLS, which makes it an HTTPS proxy, or SOCKS5 over TLS.
        "tls" tls: Option<At<bool>>,
        /// Permission bits of a unix socket, in octal: `"0660"`.
        "mode" mode: Option<Text>,
        /// With `transparent`: the target, `HOST:PORT`, of a connection that names no host.
        "default" default: Option<Text>,
        /// With `transparent`: `true` where the firewall uses TPROXY and not REDIRECT.
        "tproxy" tproxy: Option<At<bool>>,
        /// With `gateway`: host names with a dot by which clients may call it.
        "names" names: Option<Many<Text>>,
        /// With `dns`: the addresses that every allowed name has, such as Keyferry's own. Absent: those it really has.
        "answer" answer: Option<Many<Text>>,
        /// Networks of load balancers. A connection from there must begin with a PROXY header, version 1 or 2, and the
        /// address it tells of counts as the agent's.
        "proxy_protocol" proxy_protocol: Option<Many<Text>>,
    }
}

section! {
    /// The operator's listener.
    AdminMap, "`admin`", {
        /// `127.0.0.1:9090` or `unix:/run/keyferry/admin.sock`.
        "bind" bind: Text,
        /// The secret that a caller shows as a bearer token. Needed unless the address is loopback or a unix socket.
        "token" token: Option<Text>,
    }
}

section! {
    /// The certificate authority: one of `dir`, `memory`, or `certificate` with `key`.
    #[schemars(extend("oneOf" = [{"required": ["dir"]}, {"required": ["memory"]}, {"required": ["certificate"]}],
        "dependentRequired" = {"certificate": ["key"], "key": ["certificate"]}))]
    RawCa, "`ca`", {
        /// A directory: the CA is made on first use and kept there.
        "dir" dir: Option<Text>,
        /// `true`: the CA is made at start and its key never written.
        "memory" memory: Option<At<bool>>,
        /// Your own CA: a PEM file, the issuing certificate first, then its chain.
        "certificate" certificate: Option<Text>,
        /// The private key of that certificate, PEM.
        "key" key: Option<Text>,
    }
}

section! {
    /// The way out.
    RawUpstream, "`upstream`", {
        /// Whom to trust: `system` and PEM files. Absent: `system`.
        "roots" roots: Option<Many<Text>>,
        /// Fixed answers for names, as `HOST: ADDRESS` or `HOST: ADDRESS:PORT`.
        "resolve" resolve: Option<Named<Text>>,
        /// Private, loopback or link-local networks that may be reached all the same, such as `127.0.0.0/8`.
        "allow_networks" allow_networks: Option<Many<Text>>,
        /// A proxy that requests go out through: `http://HOST:PORT`, `https://HOST:PORT` or `socks5://HOST:PORT`.
        "parent" parent: Option<Text>,
        /// The secret `user:password` that the parent is shown.
        "parent_auth" parent_auth: Option<Text>,
        /// Hosts (`*.example.com`) and networks that are reached past the parent.
        "parent_except" parent_except: Option<Many<Text>>,
    }
}

section! {
    /// Where one credential lives, or how it is made: exactly one of `env`, `file`, `credential`, `exec`, `store`,
    /// `vault`, `aws_secret`, `aws_parameter`, `kubernetes_secret`, `gcp_secret`, `azure_secret`, `onepassword_item`, `keyring`, `secret_service`, `oauth2`, `jwt`, `github_app`, `gcp` and `azure`.
    #[schemars(extend("oneOf" = [{"required": ["env"]}, {"required": ["file"]}, {"required": ["exec"]}, {"required": ["store"]},
        {"required": ["vault"]}, {"required": ["aws_secret"]}, {"required": ["aws_parameter"]},
        {"required": ["kubernetes_secret"]}, {"required": ["gcp_secret"]}, {"required": ["azure_secret"]},
        {"required": ["onepassword_item"]}, {"required": ["keyring"]}, {"required": ["secret_service"]}, {"required": ["credential"]}, {"required": ["oauth2"]}, {"required": ["jwt"]}, {"required": ["github_app"]}, {"required": ["gcp"]}, {"required": ["azure"]}]))]
    SecretMap, "a secret", {
        /// An environment variable of Keyferry's own, read at start.
        "env" env: Option<Text>,
        /// A file, read at start and again when it changes.
        "file" file: Option<Text>,
        /// A credential that systemd passes (`LoadCredential=`), by its name there.
        "credential" credential: Option<Text>,
        /// A program and its arguments; what it prints is the credential. No shell.
        "exec" exec: Option<At<Vec<Text>>>,
        /// With `exec`: how long a value is good for. Absent: as long as Keyferry runs.
        "ttl" ttl: Option<At<Lasting>>,
        /// With `exec`: how long the program may take. Absent: `10s`.
        "timeout" timeout: Option<At<Lasting>>,
        /// An entry of Keyferry's own encrypted file, as `keyferry secret set` names it.
        "store" store: Option<Text>,
        /// With `env`, `file`, `credential`, `exec` and `store`, where they hold a JSON object: the text in it that is the credential,
        /// by name, or by a pointer such as `/db/password`.
        "field" field: Option<Text>,
        /// An entry of the Vault.
        "vault" vault: Option<RawVaultEntry>,
        /// A secret of AWS Secrets Manager.
        "aws_secret" aws_secret: Option<RawAwsSecret>,
        /// A parameter of AWS Systems Manager's Parameter Store.
        "aws_parameter" aws_parameter: Option<RawAwsParameter>,
        /// A value of a Secret of Kubernetes, by its API. One that is mounted is a `file`.
        "kubernetes_secret" kubernetes_secret: Option<RawKubernetesSecret>,
        /// A secret of Google Secret Manager.
        "gcp_secret" gcp_secret: Option<RawGcpSecret>,
        /// A secret of Azure Key Vault.
        "azure_secret" azure_secret: Option<RawAzureSecret>,
        /// A field of an item in 1Password.
        "onepassword_item" onepassword_item: Option<RawOnePasswordItem>,
        /// A key of the kernel's keyrings.
        "keyring" keyring: Option<RawKeyring>,
        /// An item of the desktop's Secret Service.
        "secret_service" secret_service: Option<RawSecretService>,
        /// A token that a token endpoint is asked for (OAuth 2.0).
        "oauth2" oauth2: Option<RawOAuth2>,
        /// A token that is signed here (JWT).
        "jwt" jwt: Option<RawJwt>,
        /// A token of a GitHub App's installation.
        "github_app" github_app: Option<RawGitHubApp>,
        /// A token of a Google service account.
        "gcp" gcp: Option<RawGcp>,
        /// A token of an application in Microsoft Entra ID.
        "azure" azure: Option<RawAzure>,
        /// What the agent holds instead. Absent: made up in the same shape as the credential.
        "placeholder" placeholder: Option<Text>,
        /// The environment variables in which `keyferry run` hands the placeholder to the agent.
        /// Absent: those of the preset that uses the secret, or the `env` above when a rule injects it. `[]`: none.
        "agent_env" agent_env: Option<Many<Text>>,
    }
}

section! {
    /// What proves that an agent is the one; any one of these suffices.
    #[schemars(extend("minProperties" = 1))]
    RawAgent, "an agent", {
        /// The secret it shows as the password in `Proxy-Authorization`, or as a bearer token.
        "token" token: Option<Text>,
        /// The SHA-256 of such a token, as 64 hexadecimal digits.
        "token_sha256" token_sha256: Option<Text>,
        /// The user id of the process on the other side of a unix socket.
        "peer_uid" peer_uid: Option<At<u32>>,
        /// The context id (CID) of the virtual machine that connects over vsock: 3 or above.
        "vsock_cid" vsock_cid: Option<At<u32>>,
        /// The address or network it connects from, such as `10.1.0.0/16`.
        "address" address: Option<Many<Text>>,
        /// The certificate it shows on a `tls: true` listener.
        "client_certificate" client_certificate: Option<Many<RawCertificate>>,
    }
}

section! {
    /// Which certificate: one of a `ca`, with the name in `dns` or `uri`; or the one of `sha256` or
    /// `public_key_sha256`, whoever issued it.
    #[schemars(extend("oneOf" = [{"required": ["dns"]}, {"required": ["uri"]}, {"required": ["sha256"]},
        {"required": ["public_key_sha256"]}], "dependentRequired" = {"dns": ["ca"], "uri": ["ca"]},
        "dependentSchemas" = {"sha256": {"not": {"required": ["ca"]}},
            "public_key_sha256": {"not": {"required": ["ca"]}}}))]
    RawCertificate, "`client_certificate`", {
        /// The CA that issued it, or issued its issuer: a PEM file, read at start and at each reload.
        "ca" ca: Option<Text>,
        /// The DNS name in it (subject alternative name), whole: no wildcard stands for it.
        "dns" dns: Option<Text>,
        /// The URI in it (subject alternative name), such as `spiffe://example.org/agent/ci`.
        "uri" uri: Option<Text>,
        /// The fingerprint of this one certificate, as `openssl x509 -noout -fingerprint -sha256` prints it.
        "sha256" sha256: Option<Text>,
        /// The SHA-256 of its public key, which stays the same when the certificate is renewed with the same key.
        "public_key_sha256" public_key_sha256: Option<Text>,
    }
}

section! {
    /// One rule: which requests it speaks of, and what happens to them.
    #[schemars(extend("anyOf" = [{"required": ["host"]}, {"required": ["preset"]}]))]
    RawRule, "a rule", {
        /// What logs and denials call it. Absent: the preset's name, or `rule N`.
        "name" name: Option<Text>,
        /// A ready rule for a well-known service, by name.
        "preset" preset: Option<Text>,
        /// With `preset`: which of your secrets to use. Absent: the one named like the preset, or its usual variable.
        "secret" secret: Option<Text>,
        /// With `preset`: what that must be told of you, by name, such as the id of a client. No secret stands here.
        "with" with: Option<At<Named<Text>>>,
        /// The hosts, by name or by pattern (`*.example.com`), with a port unless it is 443 or 80.
        "host" host: Option<At<Many<Text>>>,
        /// The agents it speaks of. Absent: all.
        "agents" agents: Option<At<Many<Text>>>,
        /// Which methods and paths, such as `GET /v1/models/**`. Absent: all.
        "allow" allow: Option<At<Many<Text>>>,
        /// The credentials to add; several may stand together.
        "inject" inject: Option<At<Many<RawInject>>>,
        /// The tokens in the replies are kept from the agent, which gets placeholders: for token endpoints.
        "capture" capture: Option<RawCapture>,
        /// `true`: pass the bytes on unread. Nothing can be injected then. The TLS hello must name the target; on other
        /// ports than 443 and 8443 it may name none, or there may be no TLS.
        "tunnel" tunnel: Option<At<bool>>,
        /// `true`, or the reason, which the agent is told.
        "deny" deny: Option<At<RawDeny>>,
        /// `true`: credentials may go over plain HTTP on this rule.
        "plaintext" plaintext: Option<At<bool>>,
        /// A placeholder in a body or a WebSocket message, outside its own place: `block` ends the request, `pass` lets it
        /// out as what it is, for a model that is told whatever the agent has seen. Absent: `block`.
        "stray_placeholders" stray_placeholders: Option<Text>,
        /// A parent proxy for this rule, as in `upstream`; `none`: straight out.
        "parent" parent: Option<Text>,
        /// The secret `user:password` that this parent is shown.
        "parent_auth" parent_auth: Option<Text>,
        /// Caps for this rule, counted for each agent by itself.
        "limits" limits: Option<RawRuleLimits>,
        /// The path of its base URL on `gateway` listeners, such as `/anthropic`; the rule then has one host without `*`.
        "gateway" gateway: Option<Text>,
        /// With `gateway`: the variables in which `keyferry run --gateway` hands out the base URL, such as `MY_BASE_URL`, or
        /// `MY_BASE_URL=/v1` where it ends with a path of the service's.
        "base_url" base_url: Option<Many<Text>>,
    }
}

section! {
    /// One credential and where it goes: exactly one of `bearer`, `basic`, `header`, `query`, `cookie`, `hmac`, `sigv4`, `mtls`, `exec`, `placeholder`, `login`, and of
    /// those that make one and show it as `Authorization: Bearer …`: `oauth2`, `jwt`, `github_app`, `gcp` and `azure`.
    #[schemars(extend("oneOf" = [{"required": ["bearer"]}, {"required": ["basic"]}, {"required": ["header"]},
        {"required": ["query"]}, {"required": ["cookie"]}, {"required": ["hmac"]}, {"required": ["sigv4"]}, {"required": ["mtls"]}, {"required": ["exec"]}, {"required": ["placeholder"]}, {"required": ["login"]},
        {"required": ["oauth2"]}, {"required": ["jwt"]}, {"required": ["github_app"]}, {"required": ["gcp"]}, {"required": ["azure"]}],
        "dependentRequired" = {"header": ["value"], "query": ["value"], "cookie": ["value"], "placeholder": ["in"]}))]
    RawInject, "an injection", {
        /// A secret's name: `Authorization: Bearer …`.
        "bearer" bearer: Option<Text>,
        /// `Authorization: Basic …`.
        "basic" basic: Option<RawBasic>,
        /// A header's name; `value` says what it holds.
        "header" header: Option<Text>,
        /// A query parameter's name; `value` says what it holds.
        "query" query: Option<Text>,
        /// A cookie's name; `value` says what it holds. The agent's other cookies stay.
        "cookie" cookie: Option<Text>,
        /// With `header`, `query` or `cookie`: a text in which `${name}` stands for a secret and `$$` for a dollar sign.
        "value" value: Option<Text>,
        /// The request is signed by a keyed hash (HMAC) over a template of it.
        "hmac" hmac: Option<RawHmac>,
        /// The request is signed for AWS, or what speaks as it does, in the place of the agent's own signature.
        "sigv4" sigv4: Option<RawSigV4>,
        /// A program is asked what headers the request is to be sent with.
        "exec" exec: Option<RawProgram>,
        /// A client certificate is shown to the upstream in the TLS handshake; another injection may stand beside it.
        "mtls" mtls: Option<RawMtls>,
        /// A token that a token endpoint is asked for (OAuth 2.0).
        "oauth2" oauth2: Option<RawOAuth2>,
        /// A token that is signed here (JWT).
        "jwt" jwt: Option<RawJwt>,
        /// A token of a GitHub App's installation.
        "github_app" github_app: Option<RawGitHubApp>,
        /// A token of a Google service account.
        "gcp" gcp: Option<RawGcp>,
        /// A token of an application in Microsoft Entra ID.
        "azure" azure: Option<RawAzure>,
        /// A secret's name: what the agent holds instead of it is swapped for it, in the places of `in`.
        "placeholder" placeholder: Option<Text>,
        /// A login's name, as a `capture` gives it: the placeholders of its tokens are swapped for these.
        "login" login: Option<Text>,
        /// With `placeholder`: `header:NAME`, `query:NAME`, `path`, `body:/POINTER` or `websocket`. With `login`:
        /// `header:NAME` or `body:/POINTER`. Absent with `login`: `header:authorization`.
        "in" places: Option<At<Many<Text>>>,
    }
}

section! {
    /// What is kept from the agent in the replies of a token endpoint.
    RawCapture, "`capture`", {
        /// A name for the login, which `inject: [{ login: NAME }]` of other rules refers to.
        "login" login: Text,
        /// The fields that hold a token, wherever they stand in a reply. Absent: `access_token`, `refresh_token`, `id_token`
        /// and `device_code`.
        "tokens" tokens: Option<At<Many<Text>>>,
        /// `true`: tokens outlive Keyferry, in its encrypted file. Absent: they are kept in memory.
        "keep" keep: Option<At<bool>>,
    }
}

section! {
    /// A user name and the secret that is its password.
    RawBasic, "`basic`", {
        /// The user name; no colon in it.
        "user" user: Text,
        /// The secret's name.
        "password" password: Text,
    }
}

section! {
    /// The keys of a signature as AWS has it (Signature Version 4), by secrets' names, and what it is for.
    #[schemars(extend("anyOf" = [{"required": ["access_key_id", "secret_access_key"]}, {"required": ["from"]},
        {"required": ["assume_role"]}], "not" = {"required": ["from", "access_key_id"]}, "dependentRequired" = {"external_id": ["assume_role"], "session_token": ["access_key_id"]}))]
    RawSigV4, "`sigv4`", {
        /// The secret that is the access key's id.
        "access_key_id" access_key_id: Option<Text>,
        /// The secret that is the secret access key.
        "secret_access_key" secret_access_key: Option<Text>,
        /// The secret that is the session token of temporary credentials.
        "session_token" session_token: Option<Text>,
        /// Instead: who hands out the credentials of a role of this machine's: `container` (ECS, EKS Pod Identity),
        /// `web_identity` (IAM roles for service accounts) or `instance` (EC2).
        "from" from: Option<Text>,
        /// The ARN of a role that is assumed with these credentials.
        "assume_role" assume_role: Option<Text>,
        /// With `assume_role`: what the role's owner wants to hear.
        "external_id" external_id: Option<Text>,
        /// The region, such as `eu-west-1`; or a set of them, such as `"*"` or `us-*,eu-west-1`, for which signatures are of
        /// version 4A. Absent: what the host's name says.
        "region" region: Option<Text>,
        /// The service's signing name, such as `s3`. Absent: what the host's name says.
        "service" service: Option<Text>,
        /// `unsigned`: a body whose hash the client does not state goes out without one, over TLS. Absent: `signed`, but for
        /// S3, whose clients choose.
        "payload" payload: Option<Text>,
    }
}

section! {
    /// A signature by a keyed hash (RFC 2104): over what, with which key, and where it goes.
    RawHmac, "`hmac`", {
        /// The secret that is the key.
        "key" key: Text,
        /// How the key is written: `text`, `hex` or `base64`. Absent: `text`.
        "key_encoding" key_encoding: Option<Text>,
        /// `sha256`, `sha512`, or `sha1` where a service asks for that. Absent: `sha256`.
        "algorithm" algorithm: Option<Text>,
        /// What is signed: a text in which `${method}`, `${path}`, `${query}`, `${path_and_query}`, `${host}`, `${timestamp}`,
        /// `${nonce}`, `${header:NAME}`, `${secret:NAME}`, `${body_sha256}` (and `sha512`, each also with `_base64`) and, last,
        /// `${body}` stand for those, and `$$` for a dollar sign.
        "signed" signed: Text,
        /// How the signature is written: `hex` or `base64`. Absent: `hex`.
        "encoding" encoding: Option<Text>,
        /// How `${timestamp}` is written: `seconds` or `milliseconds` since 1970, or `rfc3339`. Absent: `seconds`.
        "timestamp" timestamp: Option<Text>,
        /// The headers that are filled, each with its text: `${signature}`, `${timestamp}`, `${nonce}`, `${body_sha256}` and
        /// its like, `${secret:NAME}`.
        "headers" headers: Named<Text>,
    }
}

section! {
    /// A program that is told method, URL and agent, and answers with headers.
    RawProgram, "`exec` of an injection", {
        /// The program and its arguments. No shell.
        "command" command: At<Vec<Text>>,
        /// How long an answer may take. Absent: `10s`.
        "timeout" timeout: Option<At<Lasting>>,
        /// How many run at one time: 1 to 64. Absent: 4.
        "concurrent" concurrent: Option<At<u32>>,
    }
}

section! {
    /// A client certificate and its key, by secrets' names.
    RawMtls, "`mtls`", {
        /// The secret that is the certificate, PEM: the client's own first, then those that vouch for it.
        "certificate" certificate: Text,
        /// The secret that is its private key, PEM, not encrypted. Absent: it stands with the certificate.
        "private_key" private_key: Option<Text>,
    }
}

section! {
    /// A HashiCorp Vault, or an OpenBao, and who asks it: with a `token`, by AppRole (`role_id`), or with a JWT (`role`).
    #[schemars(extend("oneOf" = [{"required": ["token"]}, {"required": ["role_id"]}, {"required": ["role"]}]))]
    RawVault, "`vault`", {
        /// Where it is: `https://vault.example.com:8200`.
        "address" address: Text,
        /// The secret that is a token of its.
        "token" token: Option<Text>,
        /// The id of a role.
        "role_id" role_id: Option<Text>,
        /// With `role_id`: the secret that is its secret id.
        "secret_id" secret_id: Option<Text>,
        /// A role of its JWT or Kubernetes login.
        "role" role: Option<Text>,
        /// With `role`: the secret that is the JWT. Absent: the token of the account that Keyferry's pod has in Kubernetes.
        "jwt" jwt: Option<Text>,
        /// Where the login is mounted. Absent: `approle`, `jwt`, or without `jwt` `kubernetes`.
        "login" login: Option<Text>,
        /// Its namespace.
        "namespace" namespace: Option<Text>,
        /// How long asking may take. Absent: `30s`.
        "timeout" timeout: Option<At<Lasting>>,
    }
}

section! {
    /// An entry of a key-value engine.
    RawVaultEntry, "`vault` of a secret", {
        /// Where the engine is mounted. Absent: `secret`.
        "mount" mount: Option<Text>,
        /// The entry's path below that.
        "path" path: Text,
        /// The field of it that is the credential. Absent: `value`.
        "field" field: Option<Text>,
        /// The engine's version, `1` or `2`. Absent: `2`.
        "version" version: Option<At<u32>>,
        /// `true`: the engine makes a credential for each reading and lends it, as `database` and `aws` do. All secrets with the
        /// same `path` are fields of one; its lease is renewed, and another credential had when that ends.
        "dynamic" dynamic: Option<At<bool>>,
        /// How long a value is good for; a new one is fetched before that. Absent: `5m`.
        "ttl" ttl: Option<At<Lasting>>,
        /// How long the last value is used beyond that, while the Vault is down. Absent: `1h`.
        "grace" grace: Option<At<Lasting>>,
    }
}

section! {
    /// What a token endpoint is asked (RFC 6749), and who asks.
    RawOAuth2, "`oauth2`", {
        /// `client_credentials`, `refresh_token` or `jwt_bearer` (RFC 7523).
        "grant" grant: Text,
        /// The token endpoint: `https://…`.
        "token_url" token_url: Text,
        /// The client's id.
        "client_id" client_id: Option<Text>,
        /// The secret that is the client's.
        "client_secret" client_secret: Option<Text>,
        /// How the client's secret is shown: `basic` or `post`. Absent: `basic`.
        "client_auth" client_auth: Option<Text>,
        /// The secret that is a private key, PEM. It signs the assertion of `jwt_bearer`; for other grants it proves the
        /// client (`private_key_jwt`).
        "private_key" private_key: Option<Text>,
        /// With `private_key`: the key's id (`kid`).
        "key_id" key_id: Option<Text>,
        /// With `refresh_token`: the secret that is the first one. What takes its place is kept in Keyferry's encrypted file.
        "refresh_token" refresh_token: Option<Text>,
        /// With `jwt_bearer`: who says so (`iss`). Absent: `client_id`.
        "issuer" issuer: Option<Text>,
        /// With `jwt_bearer`: for whom (`sub`). Absent: as `issuer`.
        "subject" subject: Option<Text>,
        /// With `private_key`: whom the assertion is for (`aud`). Absent: `token_url`.
        "audience" audience: Option<Text>,
        /// What the token is for.
        "scopes" scopes: Option<Many<Text>>,
        /// What else is said in the form, such as `audience` or `resource`.
        "parameters" parameters: Option<Named<Text>>,
        /// How long asking may take. Absent: `30s`.
        "timeout" timeout: Option<At<Lasting>>,
    }
}

section! {
    /// A token that is signed here (RFC 7519), with RS256, ES256 or EdDSA as the key is.
    RawJwt, "`jwt`", {
        /// The secret that is the private key, PEM.
        "private_key" private_key: Text,
        /// The key's id (`kid`).
        "key_id" key_id: Option<Text>,
        /// Who says so (`iss`).
        "issuer" issuer: Option<Text>,
        /// About whom (`sub`).
        "subject" subject: Option<Text>,
        /// For whom (`aud`).
        "audience" audience: Option<Text>,
        /// Further claims, each a text.
        "claims" claims: Option<Named<Text>>,
        /// How long each token is good for. Absent: `5m`.
        "lifetime" lifetime: Option<At<Lasting>>,
    }
}

section! {
    /// A GitHub App's installation.
    RawGitHubApp, "`github_app`", {
        /// The app's id, or its client id.
        "app_id" app_id: Text,
        /// The number of the installation.
        "installation" installation: Text,
        /// The secret that is the app's private key, PEM.
        "private_key" private_key: Text,
        /// The repositories that the token is for, by name without owner. Absent: all of the installation.
        "repositories" repositories: Option<Many<Text>>,
        /// What it may do there, such as `contents: write`. Absent: all that the installation may.
        "permissions" permissions: Option<Named<Text>>,
        /// The API of an enterprise server. Absent: `https://api.github.com`.
        "api" api: Option<Text>,
        /// How long asking may take. Absent: `30s`.
        "timeout" timeout: Option<At<Lasting>>,
    }
}

section! {
    /// A Google service account: an access token with `scopes`, or an identity token for `audience`.
    #[schemars(extend("oneOf" = [{"required": ["scopes"]}, {"required": ["audience"]}]))]
    RawGcp, "`gcp`", {
        /// The secret that is the account's key file, JSON.
        "key" key: Text,
        /// The scopes of an access token, such as `https://www.googleapis.com/auth/cloud-platform`.
        "scopes" scopes: Option<Many<Text>>,
        /// The audience of an identity token: the URL of a Cloud Run service, or the client id of IAP.
        "audience" audience: Option<Text>,
        /// Where to ask. Absent: where the key file says.
        "token_url" token_url: Option<Text>,
        /// How long asking may take. Absent: `30s`.
        "timeout" timeout: Option<At<Lasting>>,
    }
}

section! {
    /// An application in Microsoft Entra ID, known by a secret, or by a certificate and its key.
    RawAzure, "`azure`", {
        /// The tenant's id or domain.
        "tenant" tenant: Text,
        /// The application's id.
        "client_id" client_id: Text,
        /// The secret that is the application's.
        "client_secret" client_secret: Option<Text>,
        /// The secret that is its certificate, PEM.
        "certificate" certificate: Option<Text>,
        /// The secret that is the certificate's private key, PEM.
        "private_key" private_key: Option<Text>,
        /// What the token is for, such as `https://management.azure.com/.default`.
        "scope" scope: Text,
        /// Another cloud. Absent: `https://login.microsoftonline.com`.
        "authority" authority: Option<Text>,
        /// How long asking may take. Absent: `30s`.
        "timeout" timeout: Option<At<Lasting>>,
    }
}

section! {
    /// Caps for one rule.
    RawRuleLimits, "`limits` of a rule", {
        /// Requests per time: `60/min`, `5/s`, `100/10s`.
        "rate" rate: Option<Text>,
        /// Requests at one time.
        "concurrent" concurrent: Option<At<u32>>,
        /// Bytes in a request body, or from the agent over a WebSocket.
        "request_body" request_body: Option<At<Bytes>>,
        /// Bytes in a response body, or to the agent over a WebSocket.
        "response_body" response_body: Option<At<Bytes>>,
        /// From the request's head to the end of the response, of the WebSocket or of the tunnel.
        "time" time: Option<At<Lasting>>,
    }
}

section! {
    /// A file of audit records, one JSON object a line.
    AuditMap, "`audit`", {
        /// Where.
        "file" file: Text,
        /// The size at which it is turned over. Absent: `100MiB`.
        "rotate" rotate: Option<At<Bytes>>,
        /// How many old ones are kept. Absent: 5.
        "keep" keep: Option<At<u32>>,
        /// When records cannot be written: `count` what is lost and say so, or `refuse` new exchanges. Absent: `count`.
        "when_full" when_full: Option<Text>,
    }
}

section! {
    /// Caps and deadlines of the whole program.
    RawLimits, "`limits`", {
        /// Connections from agents at one time. Absent: 10000.
        "connections" connections: Option<At<u32>>,
        /// Connections of one agent at one time. Absent: 1000.
        "agent_connections" agent_connections: Option<At<u32>>,
        /// Requests of one agent at one time, tunnels and WebSockets among them. Absent: 1000.
        "agent_requests" agent_requests: Option<At<u32>>,
        /// Bytes of bodies held in memory at one time, to be searched or decoded; of several agents, each may have half of it. Absent: `256MiB`.
        "bodies" bodies: Option<At<Bytes>>,
        /// Bytes in a request head. Absent: `256KiB`.
        "head_bytes" head_bytes: Option<At<Bytes>>,
        /// Streams on one HTTP/2 connection. Absent: 128.
        "streams" streams: Option<At<u32>>,
        /// From accept, or from the reply before, to a whole request head; likewise for a TLS handshake and for each head in HTTP/2. Absent: `1m`.
        "head_time" head_time: Option<At<Lasting>>,
        /// Without a byte either way on a tunnel or WebSocket, or in any other exchange once `connect_time` and `response_time` have passed. Absent: `1h`.
        "idle_time" idle_time: Option<At<Lasting>>,
        /// For the other side to take a byte that waits for it. Absent: `10m`.
        "stall_time" stall_time: Option<At<Lasting>>,
        /// To resolve, connect and handshake with an upstream. Absent: `30s`.
        "connect_time" connect_time: Option<At<Lasting>>,
        /// Between a request's last piece and the response's head; for the agent, to its next piece. Absent: `10m`.
        "response_time" response_time: Option<At<Lasting>>,
        /// For exchanges to finish once asked to stop. Absent: `30s`.
        "drain_time" drain_time: Option<At<Lasting>>,
        /// Leaf certificates kept. Absent: 1000.
        "leaves" leaves: Option<At<u32>>,
    }
}

impl RawConfig {
    /// The secrets in order of writing; `None` for one that could not be read.
    pub(super) fn secrets(&self) -> &[(Text, Option<RawSecret>)] {
        self.secrets.as_ref().map_or(&[], |named| &named.0)
    }

    /// The agents in order of writing; `None` for one that could not be read.
    pub(super) fn agents(&self) -> &[(Text, Option<RawAgent>)] {
        self.agents.as_ref().map_or(&[], |named| &named.0)
    }
}

/// A listener as a map, or its address alone.
#[derive(Debug, Clone)]
pub(super) struct RawListen(pub(super) ListenMap);

impl Read for RawListen {
    fn read(node: &Node, found: &mut Findings<'_>) -> Option<Self> {
        if matches!(node.value, Value::Map(_)) {
            return ListenMap::read(node, found).map(Self);
        }
        let bind = Text::read(node, found)?;
        Some(Self(ListenMap {
            at: bind.at,
            bad: false,
            bind,
            speak: None,
            tls: None,
            mode: None,
            default: None,
            tproxy: None,
            names: None,
            answer: None,
            proxy_protocol: None,
        }))
    }
}

/// The operator's listener as a map, or its address alone.
#[derive(Debug, Clone)]
pub(super) struct RawAdmin(pub(super) AdminMap);

impl Read for RawAdmin {
    fn read(node: &Node, found: &mut Findings<'_>) -> Option<Self> {
        if matches!(node.value, Value::Map(_)) {
            return AdminMap::read(node, found).map(Self);
        }
        let bind = Text::read(node, found)?;
        Some(Self(AdminMap {
            at: bind.at,
            bad: false,
            bind,
            token: None,
        }))
    }
}

/// A secret's entry; told apart from a value written there by mistake.
#[derive(Debug, Clone)]
pub(super) struct RawSecret(pub(super) SecretMap);

impl Read for RawSecret {
    fn read(node: &Node, found: &mut Findings<'_>) -> Option<Self> {
        if !matches!(node.value, Value::Map(_)) {
            found
                .error(node.at, "a secret's value is never written in the config")
                .hint("say where it lives: `{ env: VARIABLE }`, `{ file: PATH }`, `{ exec: [PROGRAM, …] }` or `{ store: NAME }`");
            return None;
        }
        SecretMap::read(node, found).map(Self)
    }
}

/// `true`, `false`, or a reason.
#[derive(Debug, Clone)]
pub(super) enum RawDeny {
    Plain(bool),
    Reason(String),
}

impl Read for RawDeny {
    fn read(node: &Node, found: &mut Findings<'_>) -> Option<Self> {
        match &node.value {
            Value::Bool(deny) => Some(Self::Plain(*deny)),
            _ => String::read(node, found).map(Self::Reason),
        }
    }
}

/// `stdout`, `none`, or a file.
#[derive(Debug, Clone)]
pub(super) enum RawAudit {
    Stdout,
    None,
    File(Box<AuditMap>),
}

impl Read for RawAudit {
    fn read(node: &Node, found: &mut Findings<'_>) -> Option<Self> {
        match &node.value {
            Value::Map(_) => AuditMap::read(node, found).map(|map| Self::File(Box::new(map))),
            Value::Text(text) if text == "stdout" => Some(Self::Stdout),
            Value::Text(text) if text == "none" => Some(Self::None),
            _ => {
                found
                    .error(node.at, "expected `stdout`, `none` or a map with `file`")
                    .hint("write it like `audit: { file: audit.jsonl }`");
                None
            }
        }
    }
}

/// Schemas of the types that are written in more than one form.
macro_rules! forms {
    ($($name:ident: |$generator:ident| $schema:expr;)*) => {$(
        impl JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema($generator: &mut SchemaGenerator) -> Schema {
                $schema
            }
        }
    )*};
}

forms! {
    RawListen: |g| json_schema!({ "anyOf": [{ "type": "string" }, g.subschema_for::<ListenMap>()] });
    RawAdmin: |g| json_schema!({ "anyOf": [{ "type": "string" }, g.subschema_for::<AdminMap>()] });
    RawSecret: |g| g.subschema_for::<SecretMap>();
    RawDeny: |_g| json_schema!({ "type": ["boolean", "string"] });
    RawAudit: |g| json_schema!({ "anyOf": [{ "enum": ["stdout", "none"] }, g.subschema_for::<AuditMap>()] });
}
