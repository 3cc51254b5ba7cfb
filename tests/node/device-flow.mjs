// A user at another device: opens the address that has the code, confirms, and signs in at the certified provider.
// Usage: node other-device.mjs ADDRESS
import { open } from './chromium.mjs';

const { browser, page } = await open();
try {
  await page.goto(process.argv[2]);
  await page.getByRole('button', { name: 'Continue' }).click();
  await page.fill('input[name=login]', 'ada');
  await page.fill('input[name=password]', 'any password');
  await page.getByRole('button', { name: 'Sign-in' }).click();
  await page.getByRole('button', { name: 'Continue' }).click();
  await page.getByText('Sign-in Success').waitFor();
} catch (error) {
  console.error(`${error}\nat ${page.url()}:\n${await page.innerText('body')}`);
  process.exitCode = 1;
} finally {
  await browser.close();
}
