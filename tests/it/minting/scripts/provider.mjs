// An authorisation server (`oidc-provider`, certified by the OpenID Foundation), with an API beside it that takes its
// tokens. Its first line says which refresh token it has handed out.
import http from "node:http";
import { pathToFileURL } from "node:url";

const [packages, port, jwk, seconds] = process.argv.slice(2);
const { Provider } = await import(pathToFileURL(`${packages}/oidc-provider/lib/index.js`));

const common = { redirect_uris: [], response_types: [], grant_types: ["client_credentials", "refresh_token"] };
const provider = new Provider("https://auth.test", {
  clients: [
    { ...common, client_id: "basic", client_secret: "s3cr&t=%+/of-basic" },
    {
      ...common, client_id: "device", token_endpoint_auth_method: "none",
      grant_types: ["urn:ietf:params:oauth:grant-type:device_code", "refresh_token"],
    },
    { ...common, client_id: "post", client_secret: "s3cr&t=%+/of-post", token_endpoint_auth_method: "client_secret_post" },
    { ...common, client_id: "signed", token_endpoint_auth_method: "private_key_jwt", jwks: { keys: [JSON.parse(jwk)] } },
  ],
  scopes: ["read", "offline_access", "openid"],
  features: {
    clientCredentials: { enabled: true }, devInteractions: { enabled: false }, deviceFlow: { enabled: true },
    revocation: { enabled: true },
  },
  ttl: { ClientCredentials: Number(seconds), AccessToken: Number(seconds), RefreshToken: 3600, Grant: 3600 },
  rotateRefreshToken: true,
  findAccount: (_, id) => ({ accountId: id, claims: async () => ({ sub: id }) }),
});
let granted = 0;
provider.on("grant.success", () => granted++);
provider.on("grant.error", (_, error) => console.error(error.message, error.error_detail ?? ""));

const client = await provider.Client.find("basic");
const grant = new provider.Grant({ accountId: "me", clientId: "basic" });
grant.addOIDCScope("openid offline_access read");
const refresh = new provider.RefreshToken({
  accountId: "me", client, grantId: await grant.save(), gty: "authorization_code", scope: "openid offline_access read",
});

// What a person does at `verification_uri`: says yes to what this code asks for.
async function approve(request, response) {
  const typed = new URL(request.url, "https://auth.test").searchParams.get("user_code");
  const code = await provider.DeviceCode.findByUserCode(typed.replace("-", ""));
  const grant = new provider.Grant({ accountId: "me", clientId: code.clientId });
  grant.addOIDCScope(code.params.scope);
  Object.assign(code, {
    accountId: "me", grantId: await grant.save(), scope: code.params.scope, authTime: Math.floor(Date.now() / 1000),
  });
  await code.save(600);
  response.end("yes");
}

async function api(request, response) {
  const token = (request.headers.authorization ?? "").replace(/^Bearer /, "");
  const found = (await provider.ClientCredentials.find(token)) ?? (await provider.AccessToken.find(token));
  if (found && request.url === "/api/revoke") await found.destroy();
  response.writeHead(found ? 200 : 401, { "content-type": "application/json" });
  response.end(JSON.stringify({ granted, client: found?.clientId, scope: found?.scope, echo: request.headers.authorization }));
}

// Where well-known services have it.
const elsewhere = ["/api/token", "/v1/oauth2/token", "/identity/v1/oauth2/token", "/services/oauth2/token", "/oauth/token", "/oauth2/token"];
const callback = provider.callback();
const answer = (request, response) => {
  if (elsewhere.includes(request.url)) request.url = "/token";
  callback(request, response);
};
const ways = { "/api": api, "/approve": approve };
const way = (url) => elsewhere.includes(url) ? answer : Object.entries(ways).find(([path]) => url.startsWith(path))?.[1] ?? answer;
http.createServer((request, response) => way(request.url)(request, response))
  .listen(Number(port), "127.0.0.1", async () => console.error(`refresh ${await refresh.save()}`));
