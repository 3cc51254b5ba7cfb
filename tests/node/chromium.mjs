// A real browser with an empty page: Chromium, headless, that sends nothing by itself.
import { chromium } from 'playwright-core';

export async function open() {
  const browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
      '--disable-component-update', '--disable-sync', '--password-store=basic'],
  });
  const page = await browser.newPage();
  page.setDefaultTimeout(15_000);
  return { browser, page };
}
