"""The chat page in a real browser, with a server whose model repeats the prompt."""

import signal
import time

import pytest

pytest.importorskip("starlette", reason="needs starlette: pip install -r requirements-serve.txt")
selenium = pytest.importorskip("selenium", reason="needs selenium")
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402
from selenium.webdriver.support.ui import WebDriverWait  # noqa: E402

from tests.support.browser import CHROMIUM, DRIVER, browser  # noqa: E402
from tests.support.servers import Server  # noqa: E402

SERVER = "import sys; from tests.support.fake_engine import main; sys.exit(main())"
HOSTILE = [
    "</p><img src=x onerror=window.broken=1><script>window.broken=1</script>",
    "<svg/onload=window.broken=1> \"'`${window.broken=1}",
    "javascript:window.broken=1 &lt;b&gt; <a href='javascript:window.broken=1'>x</a> <base href=//evil.example>",
    "data: [DONE] \u2028\u202e\u2066 \ufeff <!-- ]]> {{7*7}} <iframe srcdoc='<script>parent.broken=1</script>'>",
]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="needs chromium and chromedriver"),
]


@pytest.fixture(scope="module")
def url():
    with Server(code=SERVER) as server:
        yield server.urls[0]
        assert server.stop() == 128 + signal.SIGTERM


@pytest.fixture(scope="module")
def session():
    with browser() as session:
        yield session


@pytest.fixture
def driver(session, url):
    """The page, loaded anew."""
    open_page(session, url)
    return session.driver


def open_page(session, url, width=1000, dark=False):
    session.show_as(width, 900, dark)
    session.messages(), session.events()  # those of the page before
    session.driver.get("about:blank")
    session.driver.get(url)
    wait_until(session.driver, lambda each: each.title == "Chat with tiny")


def wait_until(driver, condition):
    return WebDriverWait(driver, 20, poll_frequency=0.02).until(condition)


def type_into(driver, element_id, text):
    """Put a text into a field at once; what is typed key by key would lose characters that no keyboard has."""
    script = "const box = document.getElementById(arguments[0]); box.value = arguments[1]; box.focus()"
    driver.execute_script(script, element_id, text)


def send(driver, text, wait=True):
    type_into(driver, "message", text)
    driver.switch_to.active_element.send_keys(Keys.ENTER)
    if wait:
        wait_until(driver, lambda each: each.find_element(By.ID, "send").is_enabled())


def texts(driver):
    """What is shown of each message."""
    return [each.get_property("textContent") for each in driver.find_elements(By.CSS_SELECTOR, "article > p")]


def status(driver):
    return driver.find_element(By.ID, "status").text


def test_hostile_text_never_becomes_html(session, driver, url):
    type_into(driver, "system", HOSTILE[0])
    for text in HOSTILE:
        send(driver, text)
    assert texts(driver) == [each for text in HOSTILE for each in (text, text)]
    elements = driver.execute_script(
        "return [...document.querySelectorAll('#log *')].map((each) => each.tagName + each.attributes.length)"
    )
    assert set(elements) <= {"ARTICLE1", "H20", "P0", "SMALL0"}
    facts = "return [typeof window.broken, document.scripts.length, document.links.length]"
    assert driver.execute_script(facts) == ["undefined", 1, 0]
    assert session.messages() == []
    origin = url.partition("/?")[0]
    assert {each.partition("?")[0].removeprefix(origin) for each in session.requests()} <= {
        "/", "/v1/models", "/v1/chat/completions",
    }  # fmt: skip


def test_an_answer_is_stopped_and_a_conversation_begun_anew(driver, url):
    for stop in (
        lambda: driver.switch_to.active_element.send_keys(Keys.ESCAPE),
        lambda: driver.find_element(By.ID, "stop").click(),
    ):
        send(driver, "long", wait=False)
        wait_until(driver, lambda each: "long long" in texts(each)[-1])
        assert driver.find_element(By.CSS_SELECTOR, "article:last-of-type").get_attribute("aria-busy") == "true"
        stop()
        wait_until(driver, lambda each: status(each) == "Stopped.")
        before = texts(driver)[-1]
        time.sleep(0.1)
        assert texts(driver)[-1] == before
    driver.switch_to.active_element.send_keys("two lines", Keys.SHIFT, Keys.ENTER)
    assert len(texts(driver)) == 4  # nothing was sent
    driver.find_element(By.ID, "new").click()
    assert texts(driver) == [] and status(driver) == ""
    assert driver.switch_to.active_element.get_attribute("id") == "message"


def test_old_turns_are_left_out_visibly_when_the_context_is_full(driver, url):
    for number in range(3):
        send(driver, f"{number}" * 100)
    assert driver.find_elements(By.CSS_SELECTOR, ".unread, .left-out") == []
    for number in range(3, 5):
        send(driver, f"{number}" * 100)
    unread = driver.find_elements(By.CSS_SELECTOR, "article.unread")
    order = driver.execute_script("return [...document.querySelector('#log').children].map((e) => e.className)")
    assert len(unread) % 2 == 0 and len(texts(driver)) == 10
    assert order.index("left-out") == len(unread) > 0 and order.count("left-out") == 1
    note = driver.find_element(By.CLASS_NAME, "left-out").text
    assert note == "The model's context is full: it no longer reads the messages above."
    send(driver, "x" * 2000)
    assert "do not fit into the model's context of 1,024" in status(driver)
    box = driver.find_element(By.ID, "message")
    assert box.get_property("value") == "x" * 2000 and len(texts(driver)) == 10  # to shorten it
    assert len(driver.find_elements(By.CSS_SELECTOR, "article.unread")) == len(unread)


@pytest.mark.parametrize("width, dark", [(1000, False), (1000, True), (360, False)])
def test_it_fits_a_phone_and_the_night_and_has_names_for_screen_readers(session, driver, url, width, dark):
    open_page(session, url, width, dark)
    send(driver, "word" * 100)
    assert driver.execute_script("return document.documentElement.scrollWidth") <= width
    page, text = driver.execute_script(
        "const style = getComputedStyle(document.body); return [style.backgroundColor, style.color]"
    )
    assert (page, text) == (
        ("rgb(22, 24, 28)", "rgb(228, 228, 228)") if dark else ("rgb(255, 255, 255)", "rgb(34, 34, 34)")
    )
    tree = driver.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    names = {(node["role"]["value"], node.get("name", {}).get("value", "")) for node in tree if not node.get("ignored")}
    assert {
        ("button", "Send"),
        ("button", "Stop"),
        ("button", "New conversation"),
        ("log", "Conversation"),
    } <= names
    assert any(role == "textbox" and name.startswith("Message (") for role, name in names)
    assert not any(role in ("textbox", "spinbutton", "button") and not name for role, name in names)
    log = driver.find_element(By.ID, "log")
    assert log.get_attribute("aria-live") == "polite" and log.get_attribute("role") == "log"
    assert session.messages() == []


def test_a_page_that_lost_its_key_or_server_says_so(driver, url):
    driver.execute_cdp_cmd("Network.enable", {})
    driver.execute_cdp_cmd("Network.setBlockedURLs", {"urls": ["*"]})
    send(driver, "Hi")
    assert status(driver) == "Error: no connection to the server"
    assert texts(driver) == [] and driver.find_element(By.ID, "message").get_property("value") == "Hi"
