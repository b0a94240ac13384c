"""libcurl as Python programs have it: one request through a proxy, told on one line.

usage: proxied.py URL PROXY http1|http2 [option=value ...]; options: cacert, proxy_cacert, cert, key, userpwd, auth
"""
import io
import sys

import pycurl

url, proxy, kind, *rest = sys.argv[1:]
given = dict(option.split("=", 1) for option in rest)
body, heard = io.BytesIO(), []
curl = pycurl.Curl()
curl.setopt(pycurl.URL, url)
curl.setopt(pycurl.PROXY, proxy)
# CURLPROXY_HTTPS2 has no name in pycurl.
curl.setopt(pycurl.PROXYTYPE, {"https": 2, "http": 0}[proxy.split(":")[0]] if kind == "http1" else 3)
curl.setopt(pycurl.WRITEDATA, body)
curl.setopt(pycurl.VERBOSE, True)
curl.setopt(pycurl.DEBUGFUNCTION, lambda kind, text: heard.append(text.decode("latin-1")) if kind == 0 else None)
for name, option in {
    "cacert": pycurl.CAINFO,
    "proxy_cacert": pycurl.PROXY_CAINFO,
    "cert": pycurl.PROXY_SSLCERT,
    "key": pycurl.PROXY_SSLKEY,
    "userpwd": pycurl.PROXYUSERPWD,
}.items():
    if name in given:
        curl.setopt(option, given[name])
if given.get("auth") == "any":
    # Asked first, then told.
    curl.setopt(pycurl.PROXYAUTH, pycurl.HTTPAUTH_ANY)
try:
    curl.perform()
except pycurl.error as error:
    heard.append(f"error {error}")
spoken = "h2" if any("HTTP/2 proxy" in line for line in heard) else "h1"
print(spoken, curl.getinfo(pycurl.RESPONSE_CODE), body.getvalue().decode())
sys.stderr.write("".join(heard))
