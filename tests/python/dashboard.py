"""The page for people, in a headless Chromium: python dashboard.py PROGRAM [DIRECTORY FOR SCREENSHOTS]

Starts the program, puts load on it, and drives the page: numbers and plots move, nothing is reported to the console.
Says so and ends well where the program has no such page, as the reference server, or where there is no browser.
"""

import base64
import json
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

from prometheus_client.parser import text_string_to_metric_families

# How long something that must happen may take: only a failure takes that long.
DEADLINE = 60
SIZES = {"desktop": (1280, 900), "phone": (390, 844)}


def start(program, name, *arguments):
    """A server of a cluster: its process, its directory, and where it takes clients, pages and routes."""
    directory = tempfile.TemporaryDirectory()
    process = subprocess.Popen(
        [program, "-a", "127.0.0.1", "-p", "-1", "-m", "-1", "-n", name, "--ports_file_dir", directory.name]
        + ["--cluster", "nats://127.0.0.1:-1", "--cluster_name", "hall", *arguments],
        stderr=subprocess.DEVNULL,
    )
    end = time.monotonic() + DEADLINE
    while time.monotonic() < end:
        for path in pathlib.Path(directory.name).glob("*.ports"):
            try:
                ports = json.loads(path.read_text())
                return process, directory, ports["nats"][0], ports["monitoring"][0], ports["cluster"][0]
            except (ValueError, KeyError):
                pass
        time.sleep(0.02)
    raise AssertionError("the program does not listen")


def connect(url, name):
    host, port = url.split("//")[1].rsplit(":", 1)
    stream = socket.create_connection((host, int(port)))
    keys = {"verbose": False, "pedantic": False, "name": name, "lang": "python", "version": "1"}
    stream.sendall(b"CONNECT " + json.dumps(keys).encode() + b"\r\n")
    return stream


def load(url, other, stop):
    """Messages, until told to stop: a publisher and two subscribers, and one at the other server."""
    streams = [connect(url, name) for name in ("sensor <b>7</b>", "archive", "screen")] + [connect(other, "far")]
    for stream in streams[1:]:
        stream.sendall(b"SUB readings.> 1\r\n")
        threading.Thread(target=lambda it=stream: [None for _ in iter(lambda: it.recv(65536), b"")], daemon=True).start()
    message = b"PUB readings.room 120\r\n" + b"x" * 120 + b"\r\n"
    wave = 0
    while not stop.is_set():
        streams[0].sendall(message * (20 + 15 * (wave // 10 % 3)))
        wave += 1
        time.sleep(0.02)


def wait_for(driver, what, condition):
    end = time.monotonic() + DEADLINE
    while time.monotonic() < end:
        value = driver.execute_script("return " + condition)
        if value:
            return value
        time.sleep(0.1)
    raise AssertionError(f"{what} does not happen")


def browser(scheme):
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--hide-scrollbars"):
        options.add_argument(argument)
    if scheme == "dark":
        options.add_argument("--force-dark-mode")
        options.add_argument("--blink-settings=preferredColorScheme=0")
    options.binary_location = shutil.which("chromium")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    return webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))


def check_page(monitor, scheme, screenshots):
    driver = browser(scheme)
    try:
        for size, (width, height) in SIZES.items():
            driver.execute_cdp_cmd(
                "Emulation.setDeviceMetricsOverride",
                {"width": width, "height": height, "deviceScaleFactor": 2, "mobile": size == "phone"},
            )
            driver.execute_cdp_cmd(
                "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
            )
            driver.get(monitor)
            wait_for(driver, "health", "document.getElementById('state').textContent === 'healthy'")
            assert driver.title == "demo · midge", driver.title
            wait_for(driver, "a rate", "series.im.length > 2 && series.om.some(it => it > 0)")
            before = driver.execute_script("return [series.im.length, document.getElementById('messages').toDataURL()]")
            wait_for(driver, "motion", f"series.im.length > {before[0]}")
            after = driver.execute_script("return document.getElementById('messages').toDataURL()")
            assert after != before[1], "the plot stands still"
            rows = wait_for(driver, "a list", "document.querySelectorAll('#top tr').length")
            assert rows == 3, rows
            # The other server has one row, however many routes there are to it.
            shown = "document.getElementById('servers').textContent"
            wait_for(driver, "another server", f"{shown}.includes('gate<i>2</i>') && {shown}.includes('4 routes')")
            wait_for(driver, "traffic to it", "document.querySelector('#servers tr').cells[3].textContent !== '0'")
            assert driver.execute_script("return document.querySelectorAll('#servers tr').length") == 1
            assert driver.execute_script("return document.querySelector('#servers i') === null")
            tile = "document.getElementById('routes').textContent + document.getElementById('remotes').textContent"
            wait_for(driver, "the tile of routes", tile + " === '41 other server'")
            # What a client calls itself is a text, never markup.
            assert driver.execute_script("return document.querySelector('#top b') === null")
            assert "sensor <b>7</b>" in driver.execute_script("return document.getElementById('top').textContent")
            fits = "document.documentElement.scrollWidth <= document.documentElement.clientWidth"
            assert driver.execute_script("return " + fits), f"the page is wider than a {size}"
            if screenshots:
                time.sleep(4)
                path = pathlib.Path(screenshots) / f"{size}-{scheme}.png"
                shot = driver.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True})
                path.write_bytes(base64.b64decode(shot["data"]))
        errors = [it for it in driver.get_log("browser") if it["level"] in ("SEVERE", "WARNING")]
        assert not errors, errors
    finally:
        driver.quit()


def check_histogram(family):
    assert family.type == "histogram", family
    for worker in {sample.labels["worker"] for sample in family.samples}:
        samples = [sample for sample in family.samples if sample.labels["worker"] == worker]
        buckets = [sample for sample in samples if sample.name.endswith("_bucket")]
        assert [float(it.labels["le"]) for it in buckets] == sorted(float(it.labels["le"]) for it in buckets), buckets
        counts = [sample.value for sample in buckets]
        (count,) = [sample.value for sample in samples if sample.name.endswith("_count")]
        (seconds,) = [sample.value for sample in samples if sample.name.endswith("_sum")]
        assert counts == sorted(counts) and counts[-1] == count > 0 and seconds > 0, samples


def check_metrics(monitor):
    """What a parser of the text format makes of the metrics."""
    # A turn counts once it is over: that of the first answer does in the second.
    for _ in range(2):
        text = urllib.request.urlopen(monitor + "/metrics", timeout=DEADLINE).read().decode()
    families = {family.name: family for family in text_string_to_metric_families(text)}
    for name, kind in [("midge_received_messages", "counter"), ("midge_connections", "gauge")]:
        assert families[name].type == kind, families[name]
    assert all(family.documentation and family.samples for family in families.values() if family.name != "midge_http_requests")
    names = [sample.name for family in families.values() for sample in family.samples]
    counters = [sample.name for family in families.values() if family.type == "counter" for sample in family.samples]
    assert all(name.endswith("_total") for name in counters), counters
    for name in ("midge_worker_turn_seconds", "midge_worker_monitoring_slice_seconds"):
        check_histogram(families[name])
    results = {tuple(sorted(sample.labels.items())): sample.value for sample in families["midge_tls_handshakes"].samples}
    assert len(results) == 8 and not any(results.values()), results
    assert len(names) > 30


def main():
    program, screenshots = sys.argv[1], (sys.argv[2:] or [None])[0]
    process, directory, url, monitor, routes = start(program, "demo")
    other, other_directory, other_url, *_ = start(program, "gate<i>2</i>", "--routes", routes)
    stop = threading.Event()
    try:
        page = urllib.request.urlopen(monitor, timeout=DEADLINE).read()
        if b"Top connections" not in page:
            print("left out: this program has no such page")
            return
        check_metrics(monitor)
        if not shutil.which("chromium") or not shutil.which("chromedriver"):
            print("left out: there is no browser")
            return
        threading.Thread(target=load, args=(url, other_url, stop), daemon=True).start()
        for scheme in ("light", "dark"):
            check_page(monitor, scheme, screenshots)
        print("ok: the page for people")
    finally:
        stop.set()
        for running in (process, other):
            running.terminate()
            running.wait()
        directory.cleanup()
        other_directory.cleanup()


main()
