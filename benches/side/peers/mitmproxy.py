"""For mitmproxy: adds one header, and streams bodies."""

import os

AUTHORIZATION = os.environ["SIDE_AUTHORIZATION"]


class Side:
    def requestheaders(self, flow):
        flow.request.headers["authorization"] = AUTHORIZATION
        flow.request.stream = True

    def responseheaders(self, flow):
        flow.response.stream = True


addons = [Side()]
