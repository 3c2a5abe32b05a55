"""Asks this container's own web server whether it is alive: exit code 0 if it answers.

Part of the image (see Dockerfile), which has neither curl nor wget.
"""

import http.client
import os
import sys

PORT = 8000
TIMEOUT_S = 4


def is_alive() -> bool:
    """Whether the server answers without an error. A redirect to https is an answer, too."""
    # A name that the application accepts, as the proxy in front of it would send.
    host = os.environ.get("ALLOWED_HOSTS", "localhost").split(",")[0].lstrip(".")
    connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=TIMEOUT_S)
    try:
        connection.request(
            "GET", "/health/live", headers={"Host": host, "X-Forwarded-Proto": "https"}
        )
        return connection.getresponse().status < 400
    except OSError:
        return False
    finally:
        connection.close()


if __name__ == "__main__":
    sys.exit(not is_alive())
