"""Requests cached tokens from oidc-agent through its own C library, as its clients do.

Usage: OIDC_SOCK=... oidc_agent_calls.py ACCOUNT CALLS CLIENTS [MINIMUM_VALIDITY]; prints the median of a call in
microseconds and the calls a second of all clients together.
"""

import ctypes
import multiprocessing
import statistics
import sys
import time

account, calls, clients = sys.argv[1].encode(), int(sys.argv[2]), int(sys.argv[3])
validity = int(sys.argv[4]) if len(sys.argv) > 4 else 0


def request_tokens(_):
    library = ctypes.CDLL("liboidc-agent.so.4")
    library.getAccessToken.restype = ctypes.c_void_p
    library.getAccessToken.argtypes = [ctypes.c_char_p, ctypes.c_long, ctypes.c_char_p]
    # Its own: what it gives out begins behind a length, so the C library's free() ends the process.
    library._secFree.argtypes = [ctypes.c_void_p]
    times = []
    for _ in range(calls):
        begun = time.perf_counter()
        token = library.getAccessToken(account, validity, None)
        times.append(time.perf_counter() - begun)
        if not token:
            # SystemExit would end the worker without a word, and the pool would wait for ever.
            raise RuntimeError("oidc-agent gives no token")
        library._secFree(token)
    return times


with multiprocessing.Pool(clients) as pool:
    pool.map(abs, range(clients))
    begun = time.perf_counter()
    times = [one for client in pool.map(request_tokens, range(clients), chunksize=1) for one in client]
    taken = time.perf_counter() - begun
print(statistics.median(times) * 1e6, len(times) / taken)
