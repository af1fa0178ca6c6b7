"""What holds for all tests."""

import signal


def pytest_configure():
    # a shell starts what it runs in the background with SIGINT ignored, and children inherit that; here it is tested
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
