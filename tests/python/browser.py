"""A user at the login form of django-oauth-toolkit. BROWSER names it as the browser."""

import sys

import requests

session = requests.Session()
session.trust_env = False
page = session.get(sys.argv[1])
page.raise_for_status()
form = {
    "csrfmiddlewaretoken": session.cookies["csrftoken"],
    "username": "ada",
    "password": "correct horse battery staple",
}
last = session.post(page.url, data=form)
last.raise_for_status()
