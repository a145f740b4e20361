"""The page of `kerasft serve` as a person uses it, in a Chromium without a window."""

import shutil
import time

LONGEST = 60.0  # seconds that a test waits for the page


def there():
    """Whether this machine has what a test in a browser needs."""
    return all(_program(*names) for names in (_CHROMIUM, _DRIVER))


_CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
_DRIVER = ("chromedriver",)


def _program(*names):
    return next(filter(None, map(shutil.which, names)), None)


class Browser:
    """`with Browser() as page: page.open(port); page.fill(text="..."); page.ask()`"""

    def __enter__(self):
        from selenium import webdriver

        options = webdriver.ChromeOptions()
        options.binary_location = _program(*_CHROMIUM)
        # A container has no user namespaces for the sandbox, and a small /dev/shm.
        for flag in ("headless=new", "no-sandbox", "disable-dev-shm-usage", "disable-gpu"):
            options.add_argument(f"--{flag}")
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        service = webdriver.ChromeService(_program(*_DRIVER))
        self.driver = webdriver.Chrome(options, service)
        return self

    def __exit__(self, *_):
        self.driver.quit()

    def open(self, port):
        """The page of a server, with the fields of its first model."""
        self.driver.get(f"http://127.0.0.1:{port}/")
        self.until("document.querySelector('#fields [name]')")

    def until(self, condition):
        """Wait until an expression of JavaScript is true."""
        end = time.monotonic() + LONGEST
        while not self.js(f"return Boolean({condition})"):
            assert time.monotonic() < end, f"{condition}: {self.text('body')}"
            time.sleep(0.01)

    def js(self, code, *given):
        return self.driver.execute_script(code, *given)

    def one(self, css):
        return self.driver.find_element("css selector", css)

    def text(self, css):
        """The text of the one element as it is stored, also where it is not shown."""
        return self.one(css).get_property("textContent")

    def texts(self, css):
        found = self.driver.find_elements("css selector", css)
        return [one.get_property("textContent") for one in found]

    def choose(self, model):
        """Choose a model, and wait for its fields."""
        from selenium.webdriver.support.ui import Select

        Select(self.one("#model")).select_by_visible_text(model)
        self.until(f"document.querySelector('#about').textContent.startsWith('{model}, ')")

    def fill(self, **values):
        """Put values into fields. The driver types no emoji, so they are not typed."""
        for name, value in values.items():
            self.js(
                "arguments[0].value = arguments[1];"
                "arguments[0].dispatchEvent(new Event('input', { bubbles: true }))",
                self.one(f"#fields [name={name}]"),
                value,
            )

    def ask(self, **values):
        """Fill the fields, press Ctrl+Enter in the last one; what is said: time or problem."""
        from selenium.webdriver.common.keys import Keys

        self.fill(**values)
        self.one("#fields .field:last-child [name]").send_keys(Keys.CONTROL, Keys.ENTER)
        return self.said()

    def said(self):
        """The line above the answer, or the problem in its place."""
        self.until(
            "!document.querySelector('#problem').hidden"
            " || document.querySelector('#status').textContent.startsWith('Answered')"
        )
        return self.text("#status") or self.text("#problem")

    def bars(self):
        """The bars as they stand: (name, share, width)."""
        widths = self.js("return [...document.querySelectorAll('.fill')].map(f => f.style.width)")
        return list(zip(self.texts(".bars .name"), self.texts(".bars .share"), widths))

    def screen(self, width, scheme="light"):
        """The width of the screen in pixels, and the colour scheme that its user prefers."""
        self.driver.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": False},
        )
        wanted = [{"name": "prefers-color-scheme", "value": scheme}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": wanted})

    def complaints(self):
        """What the browser has logged since the last time: refused by the policy, thrown, lost."""
        return [entry["message"] for entry in self.driver.get_log("browser")]
