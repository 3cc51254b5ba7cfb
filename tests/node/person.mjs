// A person at a real browser: Chromium, headless, at the provider's own login form. Takes the address as a browser
// would, through BROWSER. Leaves what the last page says, and a picture of it, where LAST_PAGE names.
import { chromium } from 'playwright-core';
import { writeFileSync } from 'node:fs';

const complain = (error) => writeFileSync(`${process.env.LAST_PAGE}.error`, String(error));
process.on('uncaughtException', complain);
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
  args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
    '--disable-component-update', '--disable-sync', '--password-store=basic'],
});
const page = await browser.newPage();
page.setDefaultTimeout(15_000);
try {
  await page.goto(process.argv[2]);
  await page.fill('input[name=login]', 'ada');
  await page.fill('input[name=password]', 'any password');
  await page.getByRole('button', { name: 'Sign-in' }).click();
  await page.getByRole('button', { name: 'Continue' }).click();
  await page.waitForURL(/^http:\/\/localhost:\d+\/$/);
  const text = await page.innerText('main');
  await page.screenshot({ path: `${process.env.LAST_PAGE}.png` });
  writeFileSync(process.env.LAST_PAGE, text);
} catch (error) {
  complain(`${error}\nat ${page.url()}:\n${await page.innerText('body')}`);
} finally {
  await browser.close();
}
