# Asks HOST as urllib and http.client do, and prints the answers; TestInterceptClients
# runs it. How many connections it took is told on standard error.
import http.client
import sys
import urllib.request

host = sys.argv[1]
ports = set()


def who(n):
    return {"X-Tele-User": "alice" if n % 2 else "bob"}


def show(answer):
    if answer.status != 200:
        sys.exit("answered %d %s" % (answer.status, answer.reason))
    sys.stdout.write(answer.read().decode())


opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
for n in range(4):
    data = b"x" * 100_000 if n > 1 else None
    request = urllib.request.Request("http://%s/urllib?n=%d&a=%%2f" % (host, n), data, who(n))
    show(opener.open(request, timeout=60))

conn = http.client.HTTPConnection(host, timeout=60)
for n in range(8):
    if n < 3:
        conn.request("GET", "/get/%d" % n, headers=who(n))
    elif n < 5:
        conn.request("POST", "/length/%d" % n, b"y" * 200_000, who(n))
    elif n < 7:
        conn.request("PUT", "/chunks/%d" % n, iter([b"z" * 1000] * 50), who(n), encode_chunked=True)
    else:
        conn.putrequest("DELETE", "/odd/%d" % n, skip_accept_encoding=True)
        for name, value in [("x-tele-USER", "alice"), ("x-twice", "1"), ("X-TWICE", "2"), ("x-empty", "")]:
            conn.putheader(name, value)
        conn.endheaders()
    ports.add(conn.sock.getsockname()[1])
    show(conn.getresponse())
conn.close()
print("http.client: %d connections" % len(ports), file=sys.stderr)
