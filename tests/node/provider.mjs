// The certified OpenID provider `oidc-provider` with its own login form, as a public native client sees it.
// Usage: node provider.mjs REDIRECT_URI [pushed|ES512]; prints its issuer when it listens. `pushed`: accepts only requests
// that were pushed before (RFC 9126). `ES512`: signs ID tokens with that algorithm.
import Provider from 'oidc-provider';
import { generateKeyPairSync } from 'node:crypto';
import { createServer } from 'node:http';

const [redirectUri, option] = process.argv.slice(2);
const long = generateKeyPairSync('ec', { namedCurve: 'P-521' }).privateKey.export({ format: 'jwk' });
const algorithm = option === 'ES512' ? {
  client: { id_token_signed_response_alg: option },
  provider: { jwks: { keys: [{ ...long, use: 'sig', kid: 'long' }] }, enabledJWA: { idTokenSigningAlgValues: [option] } },
} : {};
const server = createServer();
server.listen(0, '127.0.0.1', () => {
  const issuer = `http://127.0.0.1:${server.address().port}`;
  const provider = new Provider(issuer, {
    clients: [{
      client_id: 'steward-lab',
      application_type: 'native',
      token_endpoint_auth_method: 'none',
      grant_types: ['authorization_code', 'refresh_token', 'urn:ietf:params:oauth:grant-type:device_code'],
      response_types: ['code'],
      redirect_uris: [redirectUri],
      ...algorithm.client,
    }],
    ...algorithm.provider,
    scopes: ['openid', 'email', 'profile', 'offline_access'],
    claims: { openid: ['sub'], email: ['email', 'email_verified'], profile: ['name'] },
    // Without this, the claims of scopes are only at the userinfo endpoint.
    conformIdTokenClaims: false,
    pkce: { required: () => true },
    rotateRefreshToken: true,
    // Access tokens that expire at once make every token request a renewal.
    ttl: { AccessToken: 20, IdToken: 600, RefreshToken: 3600 },
    features: {
      devInteractions: { enabled: true },
      deviceFlow: { enabled: true },
      pushedAuthorizationRequests: { enabled: true, requirePushedAuthorizationRequests: option === 'pushed' },
      revocation: { enabled: true },
    },
    async findAccount(_context, id) {
      return { accountId: id, claims: async () => ({ sub: id, email: `${id}@example.com`, email_verified: true, name: id }) };
    },
  });
  server.on('request', provider.callback());
  console.log(issuer);
});
