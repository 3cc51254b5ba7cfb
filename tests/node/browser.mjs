// A user at a real browser: Chromium, headless, at the provider's own login form. BROWSER names it as the browser. Writes
// the text of the last page, and a picture of it, to the path in LAST_PAGE.
import { open } from './chromium.mjs';
import { writeFileSync } from 'node:fs';

const complain = (error) => writeFileSync(`${process.env.LAST_PAGE}.error`, String(error));
process.on('uncaughtException', complain);
const { browser, page } = await open();
try {
  await page.goto(process.argv[2]);
  await page.fill('input[name=login]', 'ada');
  await page.fill('input[name=password]', 'any password');
  await page.getByRole('button', { name: 'Sign-in' }).click();
  await page.getByRole('button', { name: 'Continue' }).click();
  await page.waitForURL(/^http:\/\/localhost:\d+\/signed-in\/[0-9a-f]+$/);
  const text = await page.innerText('main');
  await page.screenshot({ path: `${process.env.LAST_PAGE}.png` });
  writeFileSync(process.env.LAST_PAGE, text);
} catch (error) {
  complain(`${error}\nat ${page.url()}:\n${await page.innerText('body')}`);
} finally {
  await browser.close();
}
