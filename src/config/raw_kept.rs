//! Secrets that stores of others keep, as written.

use super::leaf::{At, Lasting, Named, Text};
use super::read::section;

/// A section that says which value of a store is wanted: its own keys, and those that all of them have.
macro_rules! kept {
    ($(#[$meta:meta])* $name:ident, $what:literal, {
        $($(#[$field_meta:meta])* $key:literal $field:ident: $type:ty,)*
    }) => {
        section! {
            $(#[$meta])*
            $name, $what, {
                $($(#[$field_meta])* $key $field: $type,)*
                /// Where it is a JSON object: the text in it that is the credential, by name, or by a pointer such as
                /// `/db/password`.
                "field" field: Option<Text>,
                /// How long a value is good for; a new one is fetched before that. Absent: `5m`.
                "ttl" ttl: Option<At<Lasting>>,
                /// How long the last value is used beyond that, while the store cannot be asked or does not give it. Absent: `1h`.
                "grace" grace: Option<At<Lasting>>,
            }
        }
    };
}

section! {
    /// AWS, for secrets with `aws_secret` and `aws_parameter`: where, and with whose keys. Absent: with those of the variables
    /// `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY` and, if it is set, `AWS_SESSION_TOKEN`.
    #[schemars(extend("dependentRequired" = {"access_key_id": ["secret_access_key"],
        "secret_access_key": ["access_key_id"], "session_token": ["access_key_id"], "external_id": ["assume_role"]},
        "not" = {"required": ["from", "access_key_id"]}))]
    RawAws, "`aws`", {
        /// The region, such as `eu-west-1`, of what names none itself, and whose STS is asked.
        "region" region: Option<Text>,
        /// Who hands out the credentials of a role of this machine's: `container` (ECS, EKS Pod Identity), `web_identity` (IAM
        /// roles for service accounts) or `instance` (EC2).
        "from" from: Option<Text>,
        /// The secret that is the access key's id.
        "access_key_id" access_key_id: Option<Text>,
        /// The secret that is the secret access key.
        "secret_access_key" secret_access_key: Option<Text>,
        /// The secret that is the session token of temporary credentials.
        "session_token" session_token: Option<Text>,
        /// The ARN of a role that is assumed with these credentials.
        "assume_role" assume_role: Option<Text>,
        /// With `assume_role`: what the role's owner wants to hear.
        "external_id" external_id: Option<Text>,
        /// Where to ask instead of AWS: a VPC's endpoint, or what speaks as AWS does.
        "endpoint" endpoint: Option<Text>,
        /// How long asking may take. Absent: `30s`.
        "timeout" timeout: Option<At<Lasting>>,
    }
}

kept! {
    /// A secret of AWS Secrets Manager.
    RawAwsSecret, "`aws_secret`", {
        /// Its name, or its ARN.
        "id" id: Text,
        /// The staging label of the version. Absent: `AWSCURRENT`.
        "stage" stage: Option<Text>,
        /// Its region. Absent: that of the ARN, or of `aws`.
        "region" region: Option<Text>,
    }
}

kept! {
    /// A parameter of AWS Systems Manager's Parameter Store, decrypted.
    RawAwsParameter, "`aws_parameter`", {
        /// Its name, or its ARN; a version or a label may follow behind a colon.
        "name" name: Text,
        /// Its region. Absent: that of the ARN, or of `aws`.
        "region" region: Option<Text>,
    }
}

section! {
    /// The API of Kubernetes, for secrets with `kubernetes_secret`. Absent: that of the cluster that Keyferry's pod runs in, with
    /// the token, CA and namespace of the pod's own account.
    RawKubernetes, "`kubernetes`", {
        /// Where it is. Absent: `https://kubernetes.default.svc`.
        "api" api: Option<Text>,
        /// A PEM file of the only roots that its certificate may lead to. Absent: without `api` that of the pod's account, with it
        /// those of `upstream.roots`.
        "ca" ca: Option<Text>,
        /// The secret that is shown as a bearer token. Absent: the token of the pod's account, which is read again as it is renewed.
        "token" token: Option<Text>,
        /// The namespace of what names none itself. Absent: the pod's.
        "namespace" namespace: Option<Text>,
        /// How long asking may take. Absent: `30s`.
        "timeout" timeout: Option<At<Lasting>>,
    }
}

kept! {
    /// One value of a Secret of Kubernetes, by its API.
    RawKubernetesSecret, "`kubernetes_secret`", {
        /// The Secret's name.
        "name" name: Text,
        /// Which of its values, as `data` names it.
        "key" key: Text,
        /// Its namespace. Absent: that of `kubernetes`.
        "namespace" namespace: Option<Text>,
    }
}

kept! {
    /// A secret of Google Secret Manager.
    RawGcpSecret, "`gcp_secret`", {
        /// Its name: `projects/PROJECT/secrets/SECRET`, or `projects/PROJECT/locations/LOCATION/secrets/SECRET` of a regional one.
        "name" name: Text,
        /// Its version, by number or alias. Absent: `latest`.
        "version" version: Option<Text>,
        /// The secret that is shown as a bearer token, such as one with `gcp`.
        "token" token: Text,
        /// How long asking may take. Absent: `30s`.
        "timeout" timeout: Option<At<Lasting>>,
    }
}

kept! {
    /// A secret of Azure Key Vault.
    RawAzureSecret, "`azure_secret`", {
        /// The vault's URL: `https://NAME.vault.azure.net`.
        "vault" vault: Text,
        /// The secret's name.
        "name" name: Text,
        /// Its version. Absent: the newest.
        "version" version: Option<Text>,
        /// The secret that is shown as a bearer token, such as one with `azure` for the scope `https://vault.azure.net/.default`.
        "token" token: Text,
        /// How long asking may take. Absent: `30s`.
        "timeout" timeout: Option<At<Lasting>>,
    }
}

section! {
    /// 1Password, for secrets with `onepassword_item`: a Connect server, or its own program `op` with a service account.
    #[schemars(extend("oneOf" = [{"required": ["connect", "token"]}, {"required": ["service_account"]}]))]
    RawOnePassword, "`onepassword`", {
        /// Where a Connect server is: `https://connect.example.com`.
        "connect" connect: Option<Text>,
        /// With `connect`: the secret that is shown as a bearer token.
        "token" token: Option<Text>,
        /// The secret that is the token of a service account, for `op read`.
        "service_account" service_account: Option<Text>,
        /// With `service_account`: the program. Absent: `op`, from `PATH`.
        "program" program: Option<Text>,
        /// How long asking may take. Absent: `30s`.
        "timeout" timeout: Option<At<Lasting>>,
    }
}

section! {
    /// A field of an item in 1Password.
    RawOnePasswordItem, "`onepassword_item`", {
        /// The vault's name or id.
        "vault" vault: Text,
        /// The item's title or id.
        "item" item: Text,
        /// The section that the field is in, by label or id; needed where several sections have a field of the name.
        "section" section: Option<Text>,
        /// The field's label or id. Absent: `credential`.
        "field" field: Option<Text>,
        /// How long a value is good for; a new one is fetched before that. Absent: `5m`.
        "ttl" ttl: Option<At<Lasting>>,
        /// How long the last value is used beyond that, while 1Password cannot be asked. Absent: `1h`.
        "grace" grace: Option<At<Lasting>>,
    }
}

kept! {
    /// An item of the desktop's Secret Service (GNOME Keyring, KWallet), which `secret-tool` is asked for.
    RawSecretService, "`secret_service`", {
        /// What it is found by, each a text; together they should name one item.
        "attributes" attributes: Named<Text>,
        /// How long asking may take. Absent: `30s`.
        "timeout" timeout: Option<At<Lasting>>,
    }
}

kept! {
    /// A key of the kernel's keyrings (keyutils): one of `service` with `user`, or `description`.
    #[schemars(extend("oneOf" = [{"required": ["service", "user"]}, {"required": ["description"]}]))]
    RawKeyring, "`keyring`", {
        /// With `user`: what the key is for. Its description is `keyring:USER@SERVICE` then.
        "service" service: Option<Text>,
        /// With `service`: whose key it is.
        "user" user: Option<Text>,
        /// The key's description, as `keyctl` has it.
        "description" description: Option<Text>,
        /// How long reading may take. Absent: `30s`.
        "timeout" timeout: Option<At<Lasting>>,
    }
}
