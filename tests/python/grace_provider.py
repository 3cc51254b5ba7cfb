"""django-oauth-toolkit as an identity provider whose used refresh tokens hold for half a minute.

Usage: grace_provider.py REDIRECT_URI FOLDER; prints its issuer when it listens.
"""

import sys
from pathlib import Path
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

import django
from django.conf import settings
from jwcrypto import jwk

redirect_uri, folder = sys.argv[1], Path(sys.argv[2])
key = jwk.JWK.generate(kty="RSA", size=2048).export_to_pem(private_key=True, password=None).decode()
form = "<form method=post>{% csrf_token %}<input name=username><input name=password><button>Sign in</button></form>"
settings.configure(
    ALLOWED_HOSTS=["127.0.0.1"],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": folder / "grace.sqlite"}},
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "django.contrib.sessions", "oauth2_provider"],
    LOGIN_URL="/login/",
    MIDDLEWARE=[
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
    ],
    PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],
    ROOT_URLCONF=__name__,
    SECRET_KEY="of the lab only",
    USE_TZ=True,
    TEMPLATES=[{
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "OPTIONS": {"loaders": [("django.template.loaders.locmem.Loader", {"registration/login.html": form})]},
    }],
    OAUTH2_PROVIDER={
        "ACCESS_TOKEN_EXPIRE_SECONDS": 20,
        "OAUTH2_VALIDATOR_CLASS": f"{__name__}.Validator",
        "OIDC_ENABLED": True,
        "OIDC_RSA_PRIVATE_KEY": key,
        "PKCE_REQUIRED": True,
        "REFRESH_TOKEN_GRACE_PERIOD_SECONDS": 30,
        "REFRESH_TOKEN_REUSE_PROTECTION": True,
        "ROTATE_REFRESH_TOKEN": True,
        "SCOPES": {scope: scope for scope in ("openid", "email", "profile", "offline_access")},
    },
)
django.setup()

from django.contrib.auth import get_user_model  # noqa: E402
from django.contrib.auth.views import LoginView  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.core.wsgi import get_wsgi_application  # noqa: E402
from django.urls import include, path  # noqa: E402
from oauth2_provider.models import get_application_model  # noqa: E402
from oauth2_provider.oauth2_validators import OAuth2Validator  # noqa: E402


class Validator(OAuth2Validator):
    oidc_claim_scope = None

    def get_additional_claims(self, request):
        return {"email": request.user.email}


urlpatterns = [path("login/", LoginView.as_view()), path("o/", include("oauth2_provider.urls"))]
call_command("migrate", verbosity=0)
get_user_model().objects.create_user("ada", "ada@example.com", "correct horse battery staple")
get_application_model().objects.create(
    client_id="steward-lab",
    client_type="public",
    authorization_grant_type="authorization-code",
    redirect_uris=redirect_uri,
    algorithm="RS256",
    skip_authorization=True,
)


class Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class Quiet(WSGIRequestHandler):
    def log_message(self, *_):
        pass


server = Server(("127.0.0.1", 0), Quiet)
server.set_app(get_wsgi_application())
print(f"http://127.0.0.1:{server.server_port}/o", flush=True)
server.serve_forever()
